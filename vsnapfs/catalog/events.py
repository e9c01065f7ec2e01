"""The table of events: the one that does not follow from the journal.

So it is bounded, and when a catalog is made again its events are taken over from the file that was set aside, as far as
that can be read. A file that is not ours to open (of a reader, or set aside) is read from a copy elsewhere: its newest
rows may stand in SQLite's log beside it, and to read that is to write.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import apsw
import msgspec

from vsnapfs.binding import open_beneath
from vsnapfs.catalog.schema import TABLES
from vsnapfs.core.events import Event, text_of
from vsnapfs.core.times import iso

EVENTS_MAX = 20_000
COPY_BYTES_MAX = 64 << 20
LOG = "-wal"


class Wanted(NamedTuple):
    """Which events: with an id greater than ``after`` and at most ``until``, told at ``since_ns`` or later, of ``kinds``
    (none: of all); the first ``limit`` of them, or the last."""

    after: int = 0
    until: int = 2**63 - 1
    since_ns: int = 0
    kinds: frozenset[str] = frozenset()
    limit: int = EVENTS_MAX
    newest: bool = False

    def takes(self, found: Event) -> bool:
        return found.time_ns >= self.since_ns and (not self.kinds or found.kind in self.kinds)


def insert(db: apsw.Connection, told: Iterable[Event]) -> None:
    """In a transaction of the caller's."""
    db.executemany("INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?, ?, ?)", map(_row, told))
    db.execute("DELETE FROM events WHERE id <= (SELECT max(id) FROM events) - ?", (EVENTS_MAX,))


def select(db: apsw.Connection, wanted: Wanted) -> list[Event]:
    """In order of their ids. Raises: msgspec.ValidationError: a row that no program of ours wrote."""
    order = "DESC" if wanted.newest else "ASC"
    rows = db.execute(
        f"SELECT * FROM events WHERE id > ? AND id <= ? AND time_ns >= ? ORDER BY id {order}",
        (wanted.after, min(wanted.until, 2**63 - 1), min(wanted.since_ns, 2**63 - 1)),
    )
    found: list[Event] = []
    for row in rows:
        if len(found) == wanted.limit:
            break
        read = _event(row)
        if wanted.takes(read):
            found.append(read)
    return found[::-1] if wanted.newest else found


def last_id(db: apsw.Connection) -> int:
    return int(db.execute("SELECT max(id) FROM events").get or 0)


def events_in(directory_fd: int, name: str, repository: str) -> list[Event]:
    """All of a catalog's file that must not be touched; rows that make no sense are left out.

    repository: its uuid. None of a file that cannot be read, is another repository's, or has no such table.
    """
    try:
        with _copied(directory_fd, name) as db:
            if db.execute("SELECT sql FROM sqlite_schema WHERE name = 'events'").get != TABLES["events"]:
                return []
            if db.execute("SELECT repository FROM meta").get != repository:
                return []
            return list(_readable(db))
    except (apsw.Error, OSError, ValueError, TypeError):
        return []


def _readable(db: apsw.Connection) -> Iterator[Event]:
    """What there is up to where the file breaks, if it does."""
    try:
        for row in db.execute("SELECT * FROM events ORDER BY id"):
            try:
                yield _event(row)
            except msgspec.ValidationError:
                continue
    except apsw.Error:
        return


@contextmanager
def _copied(directory_fd: int, name: str) -> Iterator[apsw.Connection]:
    """Raises: OSError: it is not there, no file, too large, or there is no room for a copy."""
    with tempfile.TemporaryDirectory(prefix="vsnapfs-catalog-") as place:
        copy = Path(place) / "catalog.db"
        copy.write_bytes(_content(directory_fd, name))
        try:
            copy.with_name(copy.name + LOG).write_bytes(_content(directory_fd, name + LOG))
        except FileNotFoundError:
            """It was closed in order: the file has everything."""
        with closing(apsw.Connection(str(copy))) as db:
            db.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
            db.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
            yield db


def _content(directory_fd: int, name: str) -> bytes:
    """Of a file below the directory."""
    fd = open_beneath(directory_fd, name, os.O_RDONLY | os.O_NONBLOCK, 0)
    with open(fd, "rb") as file:
        content = file.read(COPY_BYTES_MAX + 1)
    if len(content) > COPY_BYTES_MAX:
        raise OSError(f"{name} is larger than {COPY_BYTES_MAX} bytes")
    return content


def _row(told: Event) -> tuple[str | int, ...]:
    detail = msgspec.json.encode(told.detail).decode()
    return told.id, told.time_ns, told.kind, told.severity, told.subject, detail


def _event(row: tuple[Any, ...]) -> Event:
    number, time_ns, kind, severity, subject, detail = row
    try:
        fields = {
            "id": number,
            "time": iso(time_ns),
            "time_ns": time_ns,
            "kind": kind,
            "severity": severity,
            "subject": subject,
            "text": text_of(kind),
            "detail": msgspec.json.decode(detail),
        }
        return msgspec.convert(fields, Event)
    except (msgspec.DecodeError, OverflowError, RecursionError) as error:
        raise msgspec.ValidationError(f"event {number} makes no sense: {error}") from error

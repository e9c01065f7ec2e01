"""The catalog's file: open, judge, read and write the tables of schema.py. It knows rows, not what they mean.

The file has one user at a time, the owner of the repository, so it is locked for good: no shared memory file, and it
works where mmap does not. Rows come back as they were written or the file is not used: what it holds can always be
had from the journal, but for its events (events.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, get_args

import apsw
import msgspec

from vsnapfs.catalog import events
from vsnapfs.catalog.counts import COUNTS_MAX, Count
from vsnapfs.catalog.file import Place, connect, faults_of, our_errors, untouched
from vsnapfs.catalog.index import GapEntry, VolumeEntry
from vsnapfs.catalog.schema import TABLES, VERSION
from vsnapfs.core.errors import IntegrityError, UsageError, VsnapfsError
from vsnapfs.core.events import Event
from vsnapfs.core.model import Bookmark, Consistency, Federation, MemberOutcome, Verdict
from vsnapfs.core.names import check_name
from vsnapfs.core.times import iso

CONSISTENCIES = frozenset(get_args(Consistency))

_VOLUME_FIELDS = len(VolumeEntry.__struct_fields__)
_BOOKMARK_COLUMNS = 16
_GAP_FIELDS = len(GapEntry.__struct_fields__)


class Mark(NamedTuple):
    """How far the tables go; the columns of meta after repository."""

    applied_seqno: int = 0
    event_seqno: int = 0
    event_time_ns: int = 0
    generation: int = 0


class Content(NamedTuple):
    """What the tables hold."""

    mark: Mark
    volumes: list[VolumeEntry]
    bookmarks: list[Bookmark]
    gaps: list[GapEntry]
    counts: list[Count]


class CatalogStore:
    """An open catalog file, or one in memory. Threads: none; the owner locks."""

    def __init__(self, place: Place | None, repository: str) -> None:
        """Open, or make it when it is missing or empty.

        Raises: IntegrityError: not a catalog, or not of this repository. StoreError: the operating system refuses.
        """
        self._repository = repository
        doing = "open the catalog" if place is None else f"open {place.path}"
        with our_errors(doing):
            self._db = connect(place)
        try:
            with our_errors(doing):
                _settle(self._db, place)
                self._judge()
        except VsnapfsError:
            self._db.close()
            raise

    def close(self) -> None:
        """Write the log back into the file and let go of it."""
        self._db.close()

    def load(self) -> Content:
        """Everything. Raises: IntegrityError: a row that no program of ours wrote."""
        with our_errors("read the catalog"):
            mark = Mark(*self._db.execute("SELECT applied_seqno, event_seqno, event_time_ns, generation FROM meta").get)
            volumes = [_volume(row) for row in self._db.execute("SELECT * FROM volumes ORDER BY id")]
            bookmarks = [_bookmark(row) for row in self._db.execute("SELECT * FROM bookmarks")]
            gaps = [_gap(row) for row in self._db.execute("SELECT * FROM gaps ORDER BY begin_seqno")]
            counts = [_count(row) for row in self._db.execute("SELECT * FROM volume_states")]
        return Content(mark, volumes, bookmarks, gaps, counts)

    def save(
        self,
        mark: Mark,
        volumes: Iterable[VolumeEntry],
        bookmarks: Iterable[Bookmark],
        dropped: Iterable[str],
        gaps: Iterable[GapEntry],
    ) -> None:
        """Put rows in place of what bears their id or name, drop bookmarks, move the mark: all or nothing.

        Raises: StoreError.
        """
        with our_errors("write the catalog"), self._db:
            self._db.executemany(
                _insert("volumes", _VOLUME_FIELDS), (msgspec.structs.astuple(entry) for entry in volumes)
            )
            self._db.executemany("DELETE FROM bookmarks WHERE name = ?", ((name,) for name in dropped))
            self._db.executemany(_insert("gaps", _GAP_FIELDS), (msgspec.structs.astuple(gap) for gap in gaps))
            self._db.executemany(_insert("bookmarks", _BOOKMARK_COLUMNS), map(_bookmark_row, bookmarks))
            self._db.execute(
                "UPDATE meta SET applied_seqno = ?, event_seqno = ?, event_time_ns = ?, generation = ?", mark
            )

    def keep_counts(self, counts: Iterable[Count]) -> None:
        """Add to the cache, which is emptied first when it has grown too large. Raises: StoreError."""
        with our_errors("write the catalog"), self._db:
            if self._db.execute("SELECT count(*) FROM volume_states").get >= COUNTS_MAX:
                self._db.execute("DELETE FROM volume_states")
            self._db.executemany(_insert("volume_states", 3), counts)

    def keep_events(self, told: Iterable[Event]) -> None:
        """Add to the table of events; the oldest go when there are too many. Raises: StoreError.

        Survives the process at once, and the machine with what is saved next: an event is not worth a sync of its own.
        """
        with our_errors("write the catalog"), _unsynced(self._db), self._db:
            events.insert(self._db, told)

    def events(self, wanted: events.Wanted) -> list[Event]:
        """Those of the table. Raises: IntegrityError: a row that no program of ours wrote."""
        with our_errors("read the catalog"):
            return events.select(self._db, wanted)

    def last_event_id(self) -> int:
        """0: there is none."""
        with our_errors("read the catalog"):
            return events.last_id(self._db)

    def faults(self) -> list[str]:
        """What SQLite's own check finds; empty when the file is sound."""
        return faults_of(self._db)

    def _judge(self) -> None:
        """Make the tables in an empty file; refuse any others than ours.

        A statement in the schema could be anybody's.
        """
        found = dict(self._db.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL"))
        if not found:
            self._make()
        elif found != TABLES:
            raise IntegrityError(f"its tables are not those of version {VERSION}")
        if self._db.execute("PRAGMA quick_check").get != "ok":
            raise IntegrityError("SQLite finds it damaged")
        if self._db.execute("SELECT version, repository FROM meta").get != (VERSION, self._repository):
            raise IntegrityError("it is of another repository or another version")

    def _make(self) -> None:
        with self._db:
            for statement in TABLES.values():
                self._db.execute(statement)
            self._db.execute(_insert("meta", 7), (1, VERSION, self._repository, *Mark()))


class Seen(NamedTuple):
    """What a file knows of a journal, as far as it was written back."""

    applied_seqno: int
    volumes: list[VolumeEntry]
    bookmarks: list[Bookmark]


def applied_in(place: Place, repository: str) -> int:
    """How far the file goes, for who must not touch it: its log is not looked at, nothing is locked.

    repository: its uuid. 0: of a file that cannot be read, or is another repository's.
    """
    try:
        with untouched(place) as db:
            return int(db.execute("SELECT applied_seqno FROM meta WHERE repository = ?", (repository,)).get or 0)
    except (apsw.Error, OSError, ValueError, TypeError):
        return 0


def seen_in(place: Place, repository: str) -> Seen:
    """The same with what it knows of names; as ``applied_in``."""
    applied_seqno = applied_in(place, repository)
    try:
        with untouched(place) as db:
            volumes = [_volume(row) for row in db.execute("SELECT * FROM volumes ORDER BY id")]
            bookmarks = [_bookmark(row) for row in db.execute("SELECT * FROM bookmarks")]
    except (apsw.Error, OSError, ValueError, TypeError, msgspec.DecodeError, UsageError):
        volumes, bookmarks = [], []
    return Seen(applied_seqno, volumes, bookmarks) if applied_seqno else Seen(0, [], [])


def _settle(db: apsw.Connection, place: Place | None) -> None:
    if place is not None:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")


@contextmanager
def _unsynced(db: apsw.Connection) -> Iterator[None]:
    db.execute("PRAGMA synchronous = NORMAL")
    try:
        yield
    finally:
        db.execute("PRAGMA synchronous = FULL")


def _insert(table: str, columns: int) -> str:
    return f"INSERT OR REPLACE INTO {table} VALUES ({', '.join('?' * columns)})"


def _volume(row: tuple[Any, ...]) -> VolumeEntry:
    fields = dict(zip(VolumeEntry.__struct_fields__, row, strict=True))
    check_name(fields["name"], "volume")
    return msgspec.convert(fields | {"base": row[6] == 1}, VolumeEntry)


def _bookmark(row: tuple[Any, ...]) -> Bookmark:
    """Quick, since there may be thousands: STRICT tables vouch for the types, ``iso`` for the range of the time."""
    (
        name,
        seqno,
        time_ns,
        consistency,
        application,
        note,
        held,
        hold_note,
        until_ns,
        created_seqno,
        created_ns,
        federation,
        schedule,
        profile,
        members,
        verdicts,
    ) = row
    if consistency not in CONSISTENCIES:
        raise msgspec.ValidationError(f"bookmark {name!r} has consistency {consistency!r}")
    check_name(name, "bookmark")
    return Bookmark(
        name=name,
        seqno=seqno,
        time=iso(time_ns),
        time_ns=time_ns,
        consistency=consistency,
        application=application,
        note=note,
        held=held == 1,
        hold_note=hold_note,
        hold_until=None if until_ns is None else iso(until_ns),
        hold_until_ns=until_ns,
        created_seqno=created_seqno,
        created=iso(created_ns),
        created_ns=created_ns,
        federation=msgspec.json.decode(federation, type=Federation) if federation else None,
        schedule=schedule,
        profile=profile,
        members=msgspec.json.decode(members, type=tuple[MemberOutcome, ...]) if members else (),
        verdicts=msgspec.json.decode(verdicts, type=tuple[Verdict, ...]) if verdicts else (),
    )


def _gap(row: tuple[Any, ...]) -> GapEntry:
    return GapEntry(**dict(zip(GapEntry.__struct_fields__, row, strict=True)))


def _count(row: tuple[Any, ...]) -> Count:
    return Count(*row)


def _bookmark_row(bookmark: Bookmark) -> tuple[str | int | None, ...]:
    return (
        bookmark.name,
        bookmark.seqno,
        bookmark.time_ns,
        bookmark.consistency,
        bookmark.application,
        bookmark.note,
        int(bookmark.held),
        bookmark.hold_note,
        bookmark.hold_until_ns,
        bookmark.created_seqno,
        bookmark.created_ns,
        msgspec.json.encode(bookmark.federation).decode() if bookmark.federation else "",
        bookmark.schedule,
        bookmark.profile,
        msgspec.json.encode(bookmark.members).decode() if bookmark.members else "",
        msgspec.json.encode(bookmark.verdicts).decode() if bookmark.verdicts else "",
    )

"""The catalog's file: open, judge, read and write the tables of schema.py. It knows rows, not what they mean.

The file has one user at a time, the owner of the repository, so it is locked for good: no shared memory file, and it
works where mmap does not. Rows come back as they were written or the file is not used: what it holds can always be
had from the journal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, get_args

import apsw
import msgspec

from vsnapfs.catalog.counts import COUNTS_MAX, Count
from vsnapfs.catalog.index import VolumeEntry
from vsnapfs.catalog.schema import TABLES, VERSION
from vsnapfs.core.errors import IntegrityError, NoSpaceError, StoreError, VsnapfsError
from vsnapfs.core.model import Bookmark, Consistency
from vsnapfs.core.times import iso

IN_MEMORY = ":memory:"
CONSISTENCIES = frozenset(get_args(Consistency))

_VOLUME_FIELDS = len(VolumeEntry.__struct_fields__)


class Mark(NamedTuple):
    """How far the tables go; the columns of meta after repository."""

    applied_seqno: int = 0
    event_seqno: int = 0
    event_time_ns: int = 0


class Content(NamedTuple):
    """What the tables hold."""

    mark: Mark
    volumes: list[VolumeEntry]
    bookmarks: list[Bookmark]
    counts: list[Count]


class CatalogStore:
    """An open catalog file, or one in memory. Threads: none; the owner locks."""

    def __init__(self, path: Path | None, repository: str) -> None:
        """Open, or make it when it is missing or empty.

        Raises: IntegrityError: not a catalog, or not of this repository. StoreError: the operating system refuses.
        """
        self._repository = repository
        if path is not None and path.is_symlink():
            raise IntegrityError(f"{path} is a symlink")
        with _told(f"open {path}"):
            self._db = _connect(path)
        try:
            with _told(f"open {path}"):
                _settle(self._db, path)
                self._judge()
        except VsnapfsError:
            self._db.close()
            raise

    def close(self) -> None:
        """Write the log back into the file and let go of it."""
        self._db.close()

    def load(self) -> Content:
        """Everything. Raises: IntegrityError: a row that no program of ours wrote."""
        with _told("read the catalog"):
            mark = Mark(*self._db.execute("SELECT applied_seqno, event_seqno, event_time_ns FROM meta").get)
            volumes = [_volume(row) for row in self._db.execute("SELECT * FROM volumes ORDER BY id")]
            bookmarks = [_bookmark(row) for row in self._db.execute("SELECT * FROM bookmarks")]
            counts = [_count(row) for row in self._db.execute("SELECT * FROM volume_states")]
        return Content(mark, volumes, bookmarks, counts)

    def save(
        self, mark: Mark, volumes: Iterable[VolumeEntry], bookmarks: Iterable[Bookmark], dropped: Iterable[str]
    ) -> None:
        """Put rows in place of what bears their id or name, drop bookmarks, move the mark: all or nothing.

        Raises: StoreError.
        """
        with _told("write the catalog"), self._db:
            self._db.executemany(
                _insert("volumes", _VOLUME_FIELDS), (msgspec.structs.astuple(entry) for entry in volumes)
            )
            self._db.executemany("DELETE FROM bookmarks WHERE name = ?", ((name,) for name in dropped))
            self._db.executemany(_insert("bookmarks", 9), map(_bookmark_row, bookmarks))
            self._db.execute("UPDATE meta SET applied_seqno = ?, event_seqno = ?, event_time_ns = ?", mark)

    def keep_counts(self, counts: Iterable[Count]) -> None:
        """Add to the cache, which is emptied first when it has grown too large. Raises: StoreError."""
        with _told("write the catalog"), self._db:
            if self._db.execute("SELECT count(*) FROM volume_states").get >= COUNTS_MAX:
                self._db.execute("DELETE FROM volume_states")
            self._db.executemany(_insert("volume_states", 3), counts)

    def faults(self) -> list[str]:
        """What SQLite's own check finds; empty when the file is sound."""
        try:
            found = [str(row[0]) for row in self._db.execute("PRAGMA integrity_check")]
        except apsw.Error as error:
            return [str(error)]
        return [] if found == ["ok"] else found

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
            self._db.execute(_insert("meta", 6), (1, VERSION, self._repository, *Mark()))


class Seen(NamedTuple):
    """What a file knows of a journal, as far as it was written back."""

    applied_seqno: int
    volumes: list[VolumeEntry]
    bookmarks: list[Bookmark]


def applied_in(path: Path, repository: str) -> int:
    """How far the file at ``path`` goes, for who must not touch it: its log is not looked at, nothing is locked.

    repository: its uuid. 0: of a file that cannot be read, or is another repository's.
    """
    try:
        with _untouched(path) as db:
            return int(db.execute("SELECT applied_seqno FROM meta WHERE repository = ?", (repository,)).get or 0)
    except (apsw.Error, ValueError, TypeError):
        return 0


def seen_in(path: Path, repository: str) -> Seen:
    """The same with what it knows of names; as ``applied_in``."""
    applied_seqno = applied_in(path, repository)
    try:
        with _untouched(path) as db:
            volumes = [_volume(row) for row in db.execute("SELECT * FROM volumes ORDER BY id")]
            bookmarks = [_bookmark(row) for row in db.execute("SELECT * FROM bookmarks")]
    except (apsw.Error, ValueError, TypeError, msgspec.ValidationError):
        volumes, bookmarks = [], []
    return Seen(applied_seqno, volumes, bookmarks) if applied_seqno else Seen(0, [], [])


@contextmanager
def _untouched(path: Path) -> Iterator[apsw.Connection]:
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI | apsw.SQLITE_OPEN_NOFOLLOW
    with closing(apsw.Connection(f"{path.absolute().as_uri()}?immutable=1", flags=flags)) as db:
        yield db


def _connect(path: Path | None) -> apsw.Connection:
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_NOFOLLOW
    db = apsw.Connection(IN_MEMORY if path is None else str(path), flags=flags)
    db.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    db.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    return db


def _settle(db: apsw.Connection, path: Path | None) -> None:
    if path is not None:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")


@contextmanager
def _told(doing: str) -> Iterator[None]:
    """Turn SQLite's errors into ours: damage, or a refusal of the operating system."""
    try:
        yield
    except (apsw.CorruptError, apsw.NotADBError, msgspec.ValidationError) as error:
        raise IntegrityError(f"cannot {doing}: {error}") from error
    except apsw.FullError as error:
        raise NoSpaceError(f"cannot {doing}: {error}") from error
    except apsw.Error as error:
        raise StoreError(f"cannot {doing}: {error}") from error


def _insert(table: str, columns: int) -> str:
    return f"INSERT OR REPLACE INTO {table} VALUES ({', '.join('?' * columns)})"


def _volume(row: tuple[Any, ...]) -> VolumeEntry:
    fields = dict(zip(VolumeEntry.__struct_fields__, row, strict=True))
    return msgspec.convert(fields | {"base": row[6] == 1}, VolumeEntry)


def _bookmark(row: tuple[Any, ...]) -> Bookmark:
    """Quick, since there may be thousands: STRICT tables vouch for the types, ``iso`` for the range of the time."""
    name, seqno, time_ns, consistency, application, note, held, hold_note, created_seqno = row
    if consistency not in CONSISTENCIES:
        raise msgspec.ValidationError(f"bookmark {name!r} has consistency {consistency!r}")
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
        created_seqno=created_seqno,
    )


def _count(row: tuple[Any, ...]) -> Count:
    return Count(*row)


def _bookmark_row(bookmark: Bookmark) -> tuple[str | int, ...]:
    return (
        bookmark.name,
        bookmark.seqno,
        bookmark.time_ns,
        bookmark.consistency,
        bookmark.application,
        bookmark.note,
        int(bookmark.held),
        bookmark.hold_note,
        bookmark.created_seqno,
    )

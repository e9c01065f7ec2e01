"""The file of the catalog of tapes: opened, judged, changed in transactions. What is in it is tape_tables.py's.

Source: docs/tape.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Self

from vsnapfs.catalog import tape_tables as tables
from vsnapfs.catalog.file import Place, connect, faults_of, our_errors, stands
from vsnapfs.core.errors import FormatUnknownError, IntegrityError, VsnapfsError

BUSY_MS = 10_000
SCANNED = "`vsnapfs tape scan` reads tapes and makes it again, when this one has been moved away"


class TapeFile:
    """The open file. Errors and concurrency: see catalog.tapes."""

    def __init__(self, place: Place, repository: str, *, write: bool) -> None:
        """Without ``write`` nothing is made: where there is no file yet the catalog is empty. repository: its uuid."""
        self._name = str(place.path)
        self._repository = repository
        exists = stands(place)
        with our_errors(f"open {self._name}"):
            self._db = connect(place if exists or write else None, make=not exists)
            self._db.set_busy_timeout(BUSY_MS)
        try:
            with our_errors(f"open {self._name}"):
                self._db.execute("PRAGMA synchronous = EXTRA")
                self._judge()
        except VsnapfsError:
            self._db.close()
            raise

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def faults(self) -> list[str]:
        """What SQLite's own check finds; empty when the file is sound."""
        return faults_of(self._db)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """All that is read in it is of one moment. Not for long: whoever changes something waits for its end."""
        within = self._db.in_transaction
        if not within:
            with our_errors(f"read {self._name}"):
                self._db.execute("BEGIN")
        try:
            yield
        finally:
            if not within and self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def _judge(self) -> None:
        found = dict(self._db.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL"))
        if not found:
            with self._changing():
                self._make()
            return
        self._judge_version(found)
        if found != tables.TABLES:
            raise IntegrityError(f"{self._name}: its tables are not those of version {tables.VERSION}", hint=SCANNED)

    def _judge_version(self, found: dict[str, str]) -> None:
        row = self._db.execute("SELECT version, repository FROM meta").get if "meta" in found else None
        if row is None or not isinstance(row[0], int):
            raise IntegrityError(f"{self._name} is no catalog of tapes", hint=SCANNED)
        if row[0] > tables.VERSION:
            what = f"{self._name} is of version {row[0]}, this program knows {tables.VERSION}"
            raise FormatUnknownError(what, hint="use a newer vsnapfs")
        if row[1] != self._repository:
            raise IntegrityError(f"{self._name} is that of another repository, {row[1]}", hint=SCANNED)

    def _make(self) -> None:
        if self._db.execute("SELECT count(*) FROM sqlite_schema").get:
            return  # another process was first
        for statement in tables.TABLES.values():
            self._db.execute(statement)
        self._insert("meta", [(1, tables.VERSION, self._repository)], "")

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """One transaction that has the right to write from its beginning on, so that what is read in it stays true."""
        with our_errors(f"write {self._name}"):
            try:
                self._db.execute("BEGIN IMMEDIATE")  # Ctrl-C while that waits is raised when it has begun
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # SQLite has ended it itself where the disk is full
                    self._db.execute("ROLLBACK")
                raise

    def _insert(self, table: str, rows: Iterable[tables.Row], conflict: str) -> None:
        for row in rows:
            self._db.execute(f"INSERT {conflict} INTO {table} VALUES ({', '.join('?' * len(row))})", row)

"""SQLite: the application is its clients, so killing those kills it. One book with a write-ahead log, one with a rollback journal."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.applications.application import Application
from tests.applications.session import Session, closing
from tests.support.processes import environment

SYNCHRONOUS = {"wal": "FULL", "delete": "EXTRA"}
"""By journal mode, what makes an answered commit durable. FULL does not sync the directory after the rollback journal
was removed, so that a commit could be rolled back after a loss of power; EXTRA is FULL with that sync."""

CHECKPOINT_PAGES = 20
"""The write-ahead log is brought into the tables so often, that both are written all the time."""


class SQLite(Application):
    """``directory`` holds a file for each book, which has the name of its journal mode."""

    user = "root"
    group = "root"
    books = ("wal", "delete")
    begin = "BEGIN IMMEDIATE"

    def make(self) -> None:
        self.directory.mkdir()

    def start(self) -> None:
        """Nothing runs but clients."""

    def stop(self) -> None:
        """The same."""

    def kill(self) -> None:
        """The same."""

    def _path(self, book: str) -> Path:
        return self.directory / f"{book}.sqlite"

    def session(self, book: str) -> Session:
        command: list[str | Path] = [sys.executable, "-m", "tests.applications.sqlite_shell", self._path(book)]
        session = Session(command, user=self.user, group=self.group, env=environment())
        try:
            assert session.ask(f"PRAGMA journal_mode={book}") == [book]
            session.ask_number(f"PRAGMA synchronous={SYNCHRONOUS[book]}; SELECT 0")
            assert session.ask_number(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}") == CHECKPOINT_PAGES
        except BaseException:
            session.close()
            raise
        return session

    def assert_sound(self) -> None:
        for book in self.books:
            with closing(self.session(book)) as session:
                said = session.ask("PRAGMA integrity_check")
                assert said == ["ok"], f"{book}: {said}"

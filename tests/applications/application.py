"""What the harness asks of an application: a database in one directory that keeps books, and can be killed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from tests.applications.session import Session, closing

BRANCHES, TELLERS, ACCOUNTS = 1, 10, 2000


class Application(ABC):
    """A database in ``directory``, of ``user``, which runs or not. ``beside``: a directory of its user's that is not on
    the volume, for sockets and logs.

    It keeps ``books``: each a set of tables as pgbench has them, and a table of transfers, numbered by each writer from
    1. A transfer changes one account, one teller, one branch by the same amount and notes it in the history, so that
    the four sums are equal after any number of whole transfers.
    """

    user: ClassVar[str]
    group: ClassVar[str]
    books: ClassVar[tuple[str, ...]] = ("books",)
    begin: ClassVar[str] = "BEGIN"
    prefix: ClassVar[str] = ""
    """Of the names of pgbench's tables."""
    accounts: ClassVar[int] = ACCOUNTS

    def __init__(self, directory: Path, beside: Path) -> None:
        self.directory = directory
        self.beside = beside

    @abstractmethod
    def make(self) -> None:
        """A new database, which does not run. It is on the medium."""

    @abstractmethod
    def start(self) -> None:
        """Until it answers; it recovers by itself."""

    @abstractmethod
    def stop(self) -> None:
        """As its users end it. Raises: AssertionError: it did not end well."""

    @abstractmethod
    def kill(self) -> None:
        """SIGKILL all its processes, and wait until they are gone. May be called at any time."""

    @abstractmethod
    def session(self, book: str) -> Session:
        """A new connection to a book, which is the caller's to close."""

    @abstractmethod
    def assert_sound(self) -> None:
        """Its own check of all its tables finds nothing."""

    def begin_load(self) -> None:
        """Start work beside that of the harness's writers. It is a part of this life: ``kill`` ends it too."""
        return

    def end_load(self) -> None:
        """End it. Raises: AssertionError: something failed in it."""
        return

    def book_of(self, writer: int) -> str:
        """The one that it writes."""
        return self.books[writer % len(self.books)]

    def fill(self) -> None:
        """Make the tables of every book. It runs."""
        for book in self.books:
            with closing(self.session(book)) as session:
                session.ask_number(
                    "; ".join(
                        [
                            *self.tables(),
                            "CREATE TABLE transfers (writer int, id int, PRIMARY KEY (writer, id))",
                            "SELECT 0;",
                        ]
                    )
                )

    def tables(self) -> list[str]:
        """Statements that make pgbench's tables and fill them."""
        return [
            "CREATE TABLE branches (bid int PRIMARY KEY, bbalance int)",
            "CREATE TABLE tellers (tid int PRIMARY KEY, bid int, tbalance int)",
            "CREATE TABLE accounts (aid int PRIMARY KEY, bid int, abalance int, filler char(84))",
            "CREATE TABLE history (tid int, bid int, aid int, delta int, mtime timestamp)",
            self.begin,
            *_rows("branches", [f"({bid}, 0)" for bid in range(1, BRANCHES + 1)]),
            *_rows("tellers", [f"({tid}, 1, 0)" for tid in range(1, TELLERS + 1)]),
            *_rows("accounts", [f"({aid}, 1, 0, 'a')" for aid in range(1, self.accounts + 1)]),
            "COMMIT",
        ]

    def transfer(self, writer: int, number: int, delta: int) -> str:
        """Statements of one transfer, which say its number once it is committed."""
        p, aid, tid, bid = self.prefix, number * 7919 % self.accounts + 1, number % TELLERS + 1, 1
        return "; ".join(
            [
                self.begin,
                f"UPDATE {p}accounts SET abalance = abalance + {delta} WHERE aid = {aid}",
                f"UPDATE {p}tellers SET tbalance = tbalance + {delta} WHERE tid = {tid}",
                f"UPDATE {p}branches SET bbalance = bbalance + {delta} WHERE bid = {bid}",
                f"INSERT INTO {p}history (tid, bid, aid, delta, mtime) VALUES ({tid}, {bid}, {aid}, {delta}, CURRENT_TIMESTAMP)",
                f"INSERT INTO transfers (writer, id) VALUES ({writer}, {number})",
                "COMMIT",
                f"SELECT {number};",
            ]
        )

    def sums(self) -> str:
        """A statement that says the four sums."""
        columns = {"accounts": "abalance", "tellers": "tbalance", "branches": "bbalance", "history": "delta"}
        return (
            ", ".join(
                f"{'' if number else 'SELECT '}(SELECT coalesce(sum({column}), 0) FROM {self.prefix}{table})"
                for number, (table, column) in enumerate(columns.items())
            )
            + ";"
        )


def _rows(table: str, rows: list[str]) -> list[str]:
    return [f"INSERT INTO {table} VALUES {', '.join(rows)}"]

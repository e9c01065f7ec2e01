"""Holding all writes to one database of PostgreSQL, by locks on its tables, in a transaction of a session of its own.

A table that is locked in SHARE mode can be read; who wants to change it waits. The lock is given when no transaction that
has changed the table is open any more, and nobody gets past us meanwhile. So when all tables are locked, what was
committed stays as it is, until the transaction ends: by ROLLBACK, or with the session.

A transaction of an application must never be the one that is ended because of us. It would be if it waited for a table of ours
for ``deadlock_timeout`` while we wait for one of its own. So we wait for half of that time at most, for all tables together,
then give back what we have, let everybody pass, and try again.

Source: PostgreSQL's manual, "Explicit Locking".
"""

from __future__ import annotations

import time
from typing import Protocol

from vsnapfs.core.errors import NotStillError, QuiesceError, TimedOutError
from vsnapfs.quiesce.sql import RefusedError, Session, doing

AGAIN = {"40P01", "55P03", "42P01", "3F000"}
"""deadlock_detected, lock_not_available; undefined_table, invalid_schema_name: one that we have just seen was dropped."""

FACTS = """
SELECT current_setting('is_superuser'),
  (SELECT setting FROM pg_settings WHERE name = 'deadlock_timeout'),
  current_setting('max_locks_per_transaction')::bigint
    * (current_setting('max_connections')::bigint + current_setting('max_prepared_transactions')::bigint)"""

TABLES = """
SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
ORDER BY c.oid"""

CATALOGS = ("pg_catalog.pg_largeobject", "pg_catalog.pg_class")
"""Large objects; and with the last, that nobody makes a table, changes or drops one."""

UNFINISHED = """
SELECT count(*) FROM pg_locks
WHERE locktype = 'relation' AND mode = 'AccessExclusiveLock' AND granted AND pid IS DISTINCT FROM pg_backend_pid()
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
"""Transactions that have made a table, which nobody else sees yet, and could commit it."""


class HoldSession(Session, Protocol):
    """A session in which a statement can be given less time, and a transaction ended whatever state it is in."""

    def ask(self, sql: str, until: float, *values: str, s_max: float = ...) -> list[tuple[str, ...]]:
        """s_max: how long the server may take at most."""

    def roll_back(self, until: float) -> None:
        """Raises: TimedOutError, RefusedError, LostError."""


class Hold:
    """session: belongs to it."""

    def __init__(self, session: HoldSession) -> None:
        self._session = session
        self._attempt_s = 0.0
        self._is_held = False

    def prepare(self, until: float) -> None:
        """Raises: QuiesceError: there are too many tables, or we are not allowed to. TimedOutError."""
        with doing("hold_writes"):
            ((superuser, deadlock_ms, capacity),) = self._session.ask(FACTS, until)
            if superuser != "on":
                raise QuiesceError("hold_writes needs a connection as a superuser")
            count = len(self._session.ask(TABLES, until))
            if count > int(capacity) // 2:
                raise QuiesceError(
                    f"hold_writes: {count} tables are too many for the server's {capacity} locks",
                    hint="raise its max_locks_per_transaction",
                )
            self._attempt_s = int(deadlock_ms) / 2000
            # Sooner than anybody else: who is ended by a deadlock are we, or an autovacuum that can be ended.
            self._session.ask(f"SET deadlock_timeout = '{max(int(deadlock_ms) // 8, 1)}ms'", until)

    def freeze(self, until: float) -> None:
        """Returns when no open transaction has changed a table, and none can. Raises: QuiesceError, TimedOutError."""
        with doing("hold_writes"):
            while not self._attempt(until):
                self._session.roll_back(until)
                if time.monotonic() + self._attempt_s >= until:
                    raise TimedOutError("transactions that write to its tables do not end")
                time.sleep(self._attempt_s)
            self._is_held = True

    def _attempt(self, until: float) -> bool:
        try:
            tables = self._session.ask(TABLES, until)
            self._session.ask("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", until)
            self._session.ask(f"LOCK TABLE {_listed(tables)} IN SHARE MODE", until, s_max=self._attempt_s)
            return self._session.ask(TABLES, until) == tables and self._session.ask(UNFINISHED, until) == [("0",)]
        except TimedOutError:
            return False
        except RefusedError as error:
            if error.code not in AGAIN:
                raise
            return False

    def thaw(self, until: float) -> None:
        """Raises: NotStillError: the session is gone, nobody knows since when. TimedOutError, QuiesceError."""
        if not self._is_held:
            return
        self._is_held = False
        try:
            with doing("end of hold_writes"):
                self._session.roll_back(until)
        except QuiesceError as error:
            raise NotStillError(str(error)) from error

    def close(self) -> None:
        self._session.close()


def _listed(tables: list[tuple[str, ...]]) -> str:
    return ", ".join(f"ONLY {name}" for name in (*(name for (name,) in tables), *CATALOGS))

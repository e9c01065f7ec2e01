"""Holding all writes to one database of PostgreSQL, by locks on its tables, in a transaction of a session of its own.

A table that is locked in SHARE mode can be read; who wants to change it waits. The lock is given when no transaction that
has changed the table is open any more, and nobody gets past us meanwhile. So when all tables are locked, what was
committed stays as it is, until the transaction ends: by ROLLBACK, or with the session.

A transaction of an application must never be the one that is ended because of us. It would be if it waited for a table of ours
for ``deadlock_timeout`` while we wait for one of its own. So from the first lock on we take half of that time at most, then
give back what we have, let everybody pass, and try again, beginning with the table that could not be had: who has changed it,
and then wants another one, finds that still free.

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
    """A session in which a transaction can be ended, whatever state it is in."""

    def roll_back(self, until: float) -> None:
        """Raises: TimedOutError, RefusedError, LostError."""


class Hold:
    """session: belongs to it."""

    def __init__(self, session: HoldSession) -> None:
        self._session = session
        self._attempt_s = 0.0
        self._is_held = False
        self._first: list[str] = []
        """Tables that could not be had, the last one first."""

    def prepare(self, until: float) -> None:
        """Raises: QuiesceError: there are too many tables, or we are not allowed to. TimedOutError."""
        with doing("hold_writes"):
            ((superuser, deadlock_ms, capacity),) = self._session.ask(FACTS, until)
            if superuser != "on":
                raise QuiesceError("hold_writes needs a connection as a superuser")
            count = len(self._tables(until))
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
            while (busy := self._attempt(until)) is not None:
                self._session.roll_back(until)
                self._first = [busy, *(table for table in self._first if table != busy)]
                if time.monotonic() + self._attempt_s / 4 >= until:
                    raise TimedOutError(f"transactions that write to {busy} do not end")
                time.sleep(self._attempt_s / 4)
            self._is_held = True

    def _attempt(self, until: float) -> str | None:
        """Returns: what could not be had; None: everything is held."""
        ask = self._session.ask
        tables = self._tables(until)
        wanted = [*(table for table in self._first if table in tables), *tables, *CATALOGS]
        ask("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", until)
        end = until  # nothing is ours yet, so nobody waits for us alone
        for table in dict.fromkeys(wanted):
            try:
                ask(f"LOCK TABLE ONLY {table} IN SHARE MODE", until, s_max=end - time.monotonic())
            except TimedOutError:
                return table
            except RefusedError as error:
                if error.code not in AGAIN:
                    raise
                return table
            end = min(end, time.monotonic() + self._attempt_s)
        if self._tables(until) != tables or ask(UNFINISHED, until) != [("0",)]:
            return CATALOGS[-1]
        return None

    def _tables(self, until: float) -> list[str]:
        return [name for (name,) in self._session.ask(TABLES, until)]

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

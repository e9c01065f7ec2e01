"""The member ``postgresql``: a server that is told of a bookmark by a connection of its own.

All volumes of a repository are cut at one position, so what a bookmark has of a cluster that lies on them is what a server finds
after a loss of power in that moment, and nothing needs to be still for that. What is done beside it:

``mode = "checkpoint"``: a CHECKPOINT in ``prepare``, so that little has to be done over again when the bookmark is started.

``mode = "backup"``: backup mode from ``prepare`` to ``thaw``; its label and its map of tablespaces are ``files``. For a cluster that
does not lie on one repository alone.

``hold_writes``: nothing commits from ``freeze`` to ``thaw``, see vsnapfs/quiesce/postgresql_hold.py.

In each of them ``freeze`` has the server write its log out, so that everything that was committed before is in the bookmark, with
``synchronous_commit = off`` too.

Source: docs/quiesce-databases.md; PostgreSQL's manual, "File System Level Backup", "Making a Base Backup Using the Low Level API".
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeAlias

from vsnapfs.core.errors import NotStillError, QuiesceError
from vsnapfs.core.model import Consistency, MemberFile
from vsnapfs.policy.profiles import FILES_BYTES_MAX, PostgreSQLSettings
from vsnapfs.quiesce.member import THAW_S_MAX, Occasion
from vsnapfs.quiesce.postgresql_hold import Hold, HoldSession
from vsnapfs.quiesce.sql import doing

THAW_S = THAW_S_MAX * 0.8
VERSION_OF_BACKUP = 150000
"""The first one with backup functions as we call them."""

FACTS = """
SELECT current_setting('server_version_num'), pg_is_in_recovery()::text,
  current_setting('fsync'), current_setting('full_page_writes'),
  (SELECT coalesce(sum(length(pg_tablespace_location(oid)) + 16), 0) FROM pg_tablespace)"""

SETTLE = """
SELECT set_config(ours.name, ours.value, false) FROM pg_settings JOIN (VALUES
  ('client_min_messages', 'error'), ('search_path', 'pg_catalog'), ('synchronous_commit', 'local'),
  ('lock_timeout', '0'), ('idle_in_transaction_session_timeout', '0'), ('idle_session_timeout', '0'), ('transaction_timeout', '0')
) AS ours (name, value) USING (name)"""
"""What databases and roles are set to must not end our session, or have it wait for another server. Those that it does not know are
left out."""

FLUSH = "SELECT pg_logical_emit_message(true, 'vsnapfs', $1)"
"""Its commit is on the disk when this returns, and so are all before it."""

Connect: TypeAlias = Callable[[str, float], HoldSession]


def connect(dsn: str, until: float) -> HoldSession:
    """By psycopg. Raises: QuiesceError: it is not installed; and all that PostgreSQLSession raises."""
    try:
        from vsnapfs.quiesce.postgresql_session import PostgreSQLSession
    except ImportError as error:
        raise QuiesceError(f"no psycopg ({error})", hint="install vsnapfs[postgresql]") from error
    return PostgreSQLSession(dsn, until)


class PostgreSQLMember:
    """See member.Member. ``files``: after ``thaw``, texts that a restore may need, by the names that they have in a data directory."""

    kind = "postgresql"
    consistency: Consistency = "application"

    def __init__(self, settings: PostgreSQLSettings, occasion: Occasion, connect: Connect = connect) -> None:
        self.name = settings.name
        self.files: tuple[MemberFile, ...] = ()
        self._settings = settings
        self._bookmark = occasion.bookmark
        self._connect = connect
        self._session: HoldSession | None = None
        self._hold: Hold | None = None
        self._is_standby = self._is_frozen = False

    def prepare(self, until: float) -> None:
        self._session = session = self._open(until)
        with doing("PostgreSQL's settings"):
            ((version, standby, fsync, full_pages, map_bytes),) = session.ask(FACTS, until)
        self._is_standby = standby == "true"
        self._check(fsync, full_pages)
        if self._settings.mode == "backup":
            _check_backup(int(version), int(map_bytes))
        if self._settings.hold_writes:
            self._hold = Hold(self._open(until))
            self._hold.prepare(until)
        if self._settings.mode == "backup":
            with doing("pg_backup_start"):
                session.ask("SELECT pg_backup_start($1, true)", until, f"vsnapfs {self._bookmark}")
        else:
            with doing("CHECKPOINT"):
                session.ask("CHECKPOINT", until)

    def _open(self, until: float) -> HoldSession:
        session = self._connect(self._settings.dsn, until)
        try:
            with doing("settings of the connection to PostgreSQL"):
                session.ask(SETTLE, until)
        except BaseException:
            session.close()
            raise
        return session

    def _check(self, fsync: str, full_pages: str) -> None:
        for name, value in (("fsync", fsync), ("full_page_writes", full_pages)):
            if value != "on":
                raise QuiesceError(f"{name} of PostgreSQL is {value}: no bookmark of it is sure to start")
        if self._settings.hold_writes and self._is_standby:
            raise QuiesceError("hold_writes: the server is a standby, where nothing can be locked")

    def lifeline(self) -> None:
        """All that it holds goes with its connections."""

    def freeze(self, until: float) -> None:
        assert self._session is not None, "not prepared"
        if self._hold is not None:
            self._hold.freeze(until)
        with doing("flush of PostgreSQL's log"):
            if self._is_standby:
                self._session.ask("SELECT 1", until)
            else:
                self._session.ask(FLUSH, until, self._bookmark)
        self._is_frozen = True

    def thaw(self) -> None:
        until = time.monotonic() + THAW_S
        try:
            if self._hold is not None:
                self._hold.thaw(until)
            if self._is_frozen and self._settings.mode == "backup":
                self._stop_backup(until)
        finally:
            self._close()

    def _stop_backup(self, until: float) -> None:
        assert self._session is not None, "not prepared"
        try:
            with doing("pg_backup_stop"):
                ((label, tablespaces),) = self._session.ask(
                    "SELECT labelfile, spcmapfile FROM pg_backup_stop(false)", until
                )
        except QuiesceError as error:
            raise NotStillError(str(error)) from error
        self.files = tuple(
            MemberFile(name, text) for name, text in (("backup_label", label), ("tablespace_map", tablespaces)) if text
        )

    def _close(self) -> None:
        self._is_frozen = False
        if self._hold is not None:
            self._hold.close()
            self._hold = None
        if self._session is not None:
            self._session.close()
            self._session = None


def _check_backup(version: int, map_bytes: int) -> None:
    if version < VERSION_OF_BACKUP:
        raise QuiesceError('mode = "backup" needs PostgreSQL 15')
    if map_bytes > FILES_BYTES_MAX // 2:
        raise QuiesceError('mode = "backup": the paths of the tablespaces are too long to be kept with a bookmark')

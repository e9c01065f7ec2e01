"""The member ``mariadb``: a server whose commits wait while a bookmark is made.

``mode = "backup_stage"``: ``BACKUP STAGE START`` in ``prepare``; ``FLUSH``, ``BLOCK_DDL``, ``BLOCK_COMMIT`` in ``freeze``; ``END`` in
``thaw``. Transactions go on up to their commit.

``mode = "read_lock"``: ``FLUSH TABLES WITH READ LOCK`` in ``freeze``. For servers without backup stages. It waits for all statements
that run, also for one that waits for a row of a transaction whose next statement has to wait for us: so each try is
a short one, and a longer one follows.

Either way the log of InnoDB is on the disk before ``freeze`` returns, so that everything that was committed is in the bookmark,
whatever ``innodb_flush_log_at_trx_commit`` is. What is held goes with the connection.

Source: docs/quiesce-databases.md; MariaDB's manual, "BACKUP STAGE".
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Callable
from typing import TypeAlias

from vsnapfs.core.errors import (
    NotStillError,
    PermissionDeniedError,
    QuiesceError,
    TimedOutError,
    from_os_error,
)
from vsnapfs.core.model import Consistency, MemberFile
from vsnapfs.policy.profiles import MariaDBSettings
from vsnapfs.quiesce.member import THAW_S_MAX
from vsnapfs.quiesce.sql import Session, doing

SOCKET = "/run/mysqld/mysqld.sock"
"""Where a server of the same machine is, if nothing else is said."""
THAW_S = THAW_S_MAX * 0.8
LOOK_EVERY_S = 0.02
VERSION_OF_STAGES = (10, 4)

STAGES = ("BACKUP STAGE FLUSH", "BACKUP STAGE BLOCK_DDL", "BACKUP STAGE BLOCK_COMMIT")
READ_LOCK = "FLUSH TABLES WITH READ LOCK"
TRY_S = 0.1
TRY_S_MAX = 1.6
THAW = {"backup_stage": "BACKUP STAGE END", "read_lock": "UNLOCK TABLES"}
NON_TRANSACTIONAL = """
SELECT tables.TABLE_SCHEMA, tables.TABLE_NAME, tables.ENGINE
FROM information_schema.TABLES AS tables JOIN information_schema.ENGINES AS engines ON engines.ENGINE = tables.ENGINE
WHERE tables.TABLE_TYPE = 'BASE TABLE' AND engines.TRANSACTIONS <> 'YES' AND tables.ENGINE NOT IN ('MEMORY', 'BLACKHOLE')
  AND tables.TABLE_SCHEMA NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys')
LIMIT 1"""
"""One of the tables whose files are closed when we have it all still, and written, but not written out to the disk."""
FLUSH = "FLUSH NO_WRITE_TO_BINLOG ENGINE LOGS"
POSITIONS = "SHOW GLOBAL STATUS WHERE Variable_name IN ('Innodb_lsn_current', 'Innodb_lsn_flushed')"

Connect: TypeAlias = Callable[[MariaDBSettings, float], Session]


def connect(settings: MariaDBSettings, until: float) -> Session:
    """By PyMySQL. Raises: QuiesceError: it is not installed; and all that MariaDBSession raises."""
    try:
        from vsnapfs.quiesce.mariadb_session import MariaDBSession
    except ImportError as error:
        raise QuiesceError(f"no PyMySQL ({error})", hint="install vsnapfs[mariadb]") from error
    if settings.option_file:
        _check_option_file(settings.option_file)
    socket = settings.socket or ("" if settings.option_file else SOCKET)
    return MariaDBSession(settings.option_file, socket, settings.user, until)


def _check_option_file(path: str) -> None:
    """It is there, and its password is nobody else's. Raises: VsnapfsError."""
    try:
        with open(path, "rb") as file:
            found = os.fstat(file.fileno())
    except OSError as error:
        raise from_os_error(error, f"read option_file {path}") from error
    if not stat.S_ISREG(found.st_mode) or found.st_mode & 0o077 or found.st_uid not in (0, os.geteuid()):
        raise PermissionDeniedError(f"option_file {path} is not a file of ours alone", hint=f"chmod 600 {path}")


class MariaDBMember:
    """See member.Member."""

    kind = "mariadb"
    consistency: Consistency = "application"
    files: tuple[MemberFile, ...] = ()

    def __init__(self, settings: MariaDBSettings, connect: Connect = connect) -> None:
        self.name = settings.name
        self._settings = settings
        self._connect = connect
        self._session: Session | None = None
        self._is_frozen = False

    def prepare(self, until: float) -> None:
        self._session = session = self._connect(self._settings, until)
        with doing("MariaDB's settings"):
            ((version, doublewrite),) = session.ask("SELECT VERSION(), @@GLOBAL.innodb_doublewrite", until)
            # No limit of the server's may end a session of ours that holds something.
            session.ask("SET SESSION wait_timeout = 3600, idle_transaction_timeout = 0", until)
        if doublewrite in ("0", "OFF"):
            raise QuiesceError("innodb_doublewrite of MariaDB is off: no bookmark of it is sure to start")
        if self._settings.non_transactional == "refuse":
            _refuse_non_transactional(session, until)
        if self._settings.mode == "backup_stage":
            _check_stages(version)
            with doing("BACKUP STAGE START"):
                session.ask("BACKUP STAGE START", until)

    def lifeline(self) -> None:
        """All that it holds goes with its connection."""

    def freeze(self, until: float) -> None:
        assert self._session is not None, "not prepared"
        if self._settings.mode == "read_lock":
            self._lock(self._session, until)
        else:
            for statement in STAGES:
                with doing(statement):
                    self._session.ask(statement, until)
        with doing("flush of InnoDB's log"):
            self._session.ask(FLUSH, until)
            self._wait_for_log(self._session, until)
        self._is_frozen = True

    def _lock(self, session: Session, until: float) -> None:
        try_s = TRY_S
        with doing(READ_LOCK):
            while True:
                try:
                    session.ask(READ_LOCK, until, s_max=try_s)
                    return
                except TimedOutError:
                    if time.monotonic() + try_s >= until:
                        raise
                time.sleep(try_s / 4)
                try_s = min(2 * try_s, TRY_S_MAX)

    def _wait_for_log(self, session: Session, until: float) -> None:
        """The server writes its log out once a second where commits do not."""
        wanted = _position(session, "Innodb_lsn_current", until)
        while _position(session, "Innodb_lsn_flushed", until) < wanted:
            if time.monotonic() + LOOK_EVERY_S >= until:
                raise TimedOutError("it is not written out")
            time.sleep(LOOK_EVERY_S)

    def thaw(self) -> None:
        session, self._session = self._session, None
        if session is None:
            return
        try:
            if self._is_frozen:
                self._let_go(session)
        finally:
            self._is_frozen = False
            session.close()

    def _let_go(self, session: Session) -> None:
        statement = THAW[self._settings.mode]
        try:
            with doing(statement):
                session.ask(statement, time.monotonic() + THAW_S)
        except QuiesceError as error:
            raise NotStillError(str(error)) from error


def _refuse_non_transactional(session: Session, until: float) -> None:
    with doing("engines of MariaDB's tables"):
        for schema, name, engine in session.ask(NON_TRANSACTIONAL, until):
            raise QuiesceError(
                f"a bookmark has of table {schema}.{name} what the kernel has written out ({engine})",
                hint='freeze its filesystem after this member, and say non_transactional = "allow"',
            )


def _check_stages(version: str) -> None:
    found = re.match(r"(\d+)\.(\d+)", version)
    if "MariaDB" not in version or found is None or (int(found[1]), int(found[2])) < VERSION_OF_STAGES:
        raise QuiesceError(f"{version} has no backup stages", hint='mode = "read_lock" is for it')


def _position(session: Session, name: str, until: float) -> int:
    for found, value in session.ask(POSITIONS, until):
        if found == name:
            return int(value)
    raise QuiesceError(f"the server does not say {name}")

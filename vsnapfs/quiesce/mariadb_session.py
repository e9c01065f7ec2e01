"""One connection to a MariaDB server, each wait of which ends at a time that the caller gives.

The server gets the same limit, as ``max_statement_time``: it must not go on waiting for a lock when we have gone.

Loaded when a member is prepared, since PyMySQL is not installed everywhere.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, TypeAlias

from pymysql import Connection, Error
from pymysql.constants import CR, ER
from pymysql.cursors import Cursor

from vsnapfs.core.errors import QuiesceError, TimedOutError
from vsnapfs.quiesce.sql import LostError, RefusedError, server_limit_s

WAIT_S_MIN = 0.001
TOO_LATE = {ER.STATEMENT_TIMEOUT, ER.QUERY_INTERRUPTED, ER.LOCK_WAIT_TIMEOUT}
GONE = {0, CR.CR_SERVER_GONE_ERROR, CR.CR_SERVER_LOST}


if TYPE_CHECKING:
    _Base: TypeAlias = Connection[Cursor]
else:
    _Base = Connection  # not a generic one, whatever its stubs say


class _Connection(_Base):
    """One whose limits change from one statement to the next."""

    _read_timeout: float | None
    _write_timeout: float | None

    def end_waits_at(self, until: float) -> None:
        self._read_timeout = self._write_timeout = max(until - time.monotonic(), WAIT_S_MIN)


class MariaDBSession:
    """See sql.Session; the values are ``%s`` in a statement. option_file, socket, user: "" for those that are not given.

    Raises: TimedOutError: not connected by ``until``. QuiesceError.
    """

    def __init__(self, option_file: str, socket: str, user: str, until: float) -> None:
        left_s = until - time.monotonic()
        if left_s <= 0:
            raise TimedOutError("cannot connect to MariaDB: no time was left")
        self._connection = _Connection(
            read_default_file=option_file or None, unix_socket=socket or None, user=user or None, charset="utf8mb4",
            autocommit=True, connect_timeout=left_s, read_timeout=left_s, write_timeout=left_s, defer_connect=True,
        )  # fmt: skip
        try:
            self._connection.connect()
        except Error as error:
            _raise_if_late(error, until)
            raise QuiesceError(f"cannot connect to MariaDB: {_said(error)}") from error

    def ask(self, sql: str, until: float, *values: str, s_max: float = math.inf) -> list[tuple[str, ...]]:
        server_s = server_limit_s(until - time.monotonic(), s_max)
        self._connection.end_waits_at(until)
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(f"SET max_statement_time = {max(server_s, WAIT_S_MIN):.3f}")
                cursor.execute(sql, values or None)
                return [tuple("" if value is None else str(value) for value in row) for row in cursor.fetchall()]
        except Error as error:
            code = error.args[0] if error.args else 0
            if code in TOO_LATE:
                raise TimedOutError("not done in time") from error
            _raise_if_late(error, until)
            if code in GONE:
                raise LostError(_said(error)) from error
            raise RefusedError(str(code), _said(error)) from error

    def close(self) -> None:
        """The server ends what it does for us when it sees that we have gone."""
        if self._connection.open:
            self._connection.end_waits_at(0)
            self._connection.close()


def _raise_if_late(error: Error, until: float) -> None:
    """What was cut off by us because of the time looks like a lost connection."""
    if time.monotonic() >= until:
        raise TimedOutError("MariaDB does not answer") from error


def _said(error: Error) -> str:
    return str(error.args[-1]) if error.args else str(error)

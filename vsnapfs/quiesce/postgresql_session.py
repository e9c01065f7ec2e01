"""One connection to a PostgreSQL server, each wait of which ends at a time that the caller gives.

libpq's own functions that wait do so without end, so it is used without them. The server gets the same limit, as
``statement_timeout``: it must not go on waiting for a lock when we have gone.

Loaded when a member is prepared, since psycopg is not installed everywhere.
"""

from __future__ import annotations

import math
import re
import select
import time

from psycopg import Error, ProgrammingError, pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from vsnapfs.core.errors import QuiesceError, TimedOutError, UsageError
from vsnapfs.quiesce.sql import LostError, RefusedError, server_limit_s

CANCELED = "57014"
"""The code of a statement that ``statement_timeout`` has stopped."""
WAITS = {pq.PollingStatus.READING: select.POLLIN, pq.PollingStatus.WRITING: select.POLLOUT}
SECRET = ("password", "secret")
"""So are options called that have one."""
QUOTED = re.compile(r'".*"')
"""What libpq repeats of a dsn that makes no sense may be a password; from the first quote to the last, since it may have quotes itself."""
GOOD = {pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK}


class PostgreSQLSession:
    """See sql.Session; the values are ``$1``, ``$2`` ... in a statement.

    Raises: UsageError: a dsn that makes no sense, or has a password in it. TimedOutError: not connected by ``until``. QuiesceError.
    """

    def __init__(self, dsn: str, until: float) -> None:
        self._pg = pq.PGconn.connect_start(_conninfo(dsn).encode())
        try:
            self._connect(until)
        except BaseException:
            self._pg.finish()
            raise

    def _connect(self, until: float) -> None:
        while (status := pq.PollingStatus(self._pg.connect_poll())) != pq.PollingStatus.OK:
            if status not in WAITS:
                raise QuiesceError(f"cannot connect to PostgreSQL: {self._pg.get_error_message()}")
            if not self._wait(WAITS[status], until):
                raise TimedOutError("cannot connect to PostgreSQL: it does not answer")
        self._pg.nonblocking = 1

    def _wait(self, events: int, until: float) -> bool:
        """Until the socket is ready. Returns: whether it is."""
        poll = select.poll()
        poll.register(self._pg.socket, events)
        return bool(poll.poll(max(until - time.monotonic(), 0) * 1000))

    def ask(self, sql: str, until: float, *values: str, s_max: float = math.inf) -> list[tuple[str, ...]]:
        """A transaction that has failed takes ``roll_back`` alone."""
        server_s = server_limit_s(until - time.monotonic(), s_max)
        self._execute(f"SET statement_timeout = {max(int(server_s * 1000), 1)}", until)
        return self._execute(sql, until, *values)

    def roll_back(self, until: float) -> None:
        """End the transaction, whatever state it is in."""
        self._execute("ROLLBACK", until)

    def _execute(self, sql: str, until: float, *values: str) -> list[tuple[str, ...]]:
        try:
            self._pg.send_query_params(sql.encode(), [value.encode() for value in values])
            return self._answer(until)
        except Error as error:
            self.close()
            raise LostError(str(error)) from error

    def _answer(self, until: float) -> list[tuple[str, ...]]:
        while self._pg.flush():
            self._wait_or_close(select.POLLIN | select.POLLOUT, until)
            self._pg.consume_input()
        results = []
        while (result := self._next(until)) is not None:
            results.append(result)
        result = results[-1]
        if result.status not in GOOD:
            code = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
            if self._pg.status == pq.ConnStatus.BAD:
                raise LostError(result.get_error_message())
            if code == CANCELED:
                raise TimedOutError("not done in time")
            raise RefusedError(code, _primary(result))
        columns, rows = range(result.nfields), range(result.ntuples)
        return [tuple((result.get_value(row, column) or b"").decode() for column in columns) for row in rows]

    def _next(self, until: float) -> pq.abc.PGresult | None:
        while self._pg.is_busy():
            self._wait_or_close(select.POLLIN, until)
            self._pg.consume_input()
        return self._pg.get_result()

    def _wait_or_close(self, events: int, until: float) -> None:
        """Nothing can be asked by a connection that owes an answer."""
        if not self._wait(events, until):
            self.close()
            raise TimedOutError("the server does not answer")

    def close(self) -> None:
        self._pg.finish()


def _primary(result: pq.abc.PGresult) -> str:
    """What is wrong, without the position in our statement."""
    said = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY)
    return said.decode(errors="replace") if said else result.get_error_message()


def _conninfo(dsn: str) -> str:
    try:
        if any(word in key for key in conninfo_to_dict(dsn) for word in SECRET):
            raise UsageError("dsn: a password has no place in it; write a passfile or a service instead")
        return make_conninfo(dsn, client_encoding="UTF8", fallback_application_name="vsnapfs")
    except ProgrammingError as error:
        said = QUOTED.sub('"…"', " ".join(str(error).split()))
        raise UsageError(f"dsn: {said}") from None

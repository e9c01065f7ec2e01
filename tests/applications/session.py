"""A client of a database as a process: a line of statements in, a line of the answer out."""

from __future__ import annotations

import contextlib
import os
import re
import select
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ANSWER_S_MAX = 120.0
READ_BYTES = 4096
COLUMNS = re.compile(r"[|\t]")


class SessionError(Exception):
    """The database refused, went away, or does not answer."""


class Session:
    """One connection. Used by one thread; ``kill`` by any."""

    def __init__(
        self, command: Sequence[str | Path], *, user: str, group: str, env: dict[str, str] | None = None
    ) -> None:
        self._process = subprocess.Popen(
            [str(word) for word in command],
            user=user, group=group, extra_groups=[], cwd="/", env=env,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0,
        )  # fmt: skip

    def ask(self, statements: str) -> list[str]:
        """Have statements executed in turn; the last of them, and no other, says one row.

        Returns: its columns, once all was executed. Raises: SessionError.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(statements.encode() + b"\n")
        except OSError as error:
            raise SessionError(f"gone: {error}") from error
        return COLUMNS.split(self._line())

    def ask_number(self, statements: str) -> int:
        """The same, of a row that is one number."""
        answer = self.ask(statements)
        if len(answer) != 1 or not answer[0].lstrip("-").isdigit():
            raise SessionError("|".join(answer))
        return int(answer[0])

    def _line(self) -> str:
        assert self._process.stdout is not None
        fd, said, end = self._process.stdout.fileno(), b"", time.monotonic() + ANSWER_S_MAX
        while not said.endswith(b"\n"):
            readable, _, _ = select.select([fd], [], [], max(end - time.monotonic(), 0))
            if not readable:
                raise SessionError(f"no answer within {ANSWER_S_MAX} s, only {said!r}")
            part = os.read(fd, READ_BYTES)
            if not part:
                raise SessionError(f"gone, having said {said!r}")
            said += part
        return said.decode(errors="replace").strip()

    def kill(self) -> None:
        """SIGKILL it."""
        self._process.kill()

    def close(self) -> None:
        """Take leave, or be killed; no process is left."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(ANSWER_S_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


@contextlib.contextmanager
def closing(session: Session) -> Iterator[Session]:
    """It is closed with the block, whatever happened in it."""
    try:
        yield session
    finally:
        session.close()

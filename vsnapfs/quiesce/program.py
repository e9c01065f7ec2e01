"""A program that is run for a member: in a group of its own, for a bounded time, its output read up to a bound.

It is started by a shell that waits for a word on its standard input before it becomes the program. By then the guard knows
the group. So nothing is ever run of which the guard does not know: if this process dies before, the shell reads the end
of the file, and ends.

What counts is the exit of the program itself. What it has left behind in its group is told, and not waited for, even if it keeps
the output open.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple, Protocol

SHELL = "/bin/sh"
LAUNCH = 'read -r go || exit 1; exec "$@" </dev/null'
OUTPUT_BYTES_MAX = 1 << 20
"""A program that prints more is not sane."""
KEPT_BYTES = 4096
LINE_LENGTH_MAX = 160
PIECE_BYTES = 65536
REAP_S = 0.1
"""So long a killed program is waited for: one that writes to what is frozen does not end before that is thawed."""


class Watch(Protocol):
    """Who kills groups if this process dies."""

    def running(self, group: int) -> None: ...
    def stopped(self, group: int) -> None: ...


class Ended(NamedTuple):
    """How a program ended. status: as wait tells it, negative for a signal; None: it was killed at its end of time. flooded: it
    was killed since it printed too much. left: processes of its group live on. said: its last line."""

    status: int | None
    flooded: bool
    left: bool
    said: str


def run(
    argv: Sequence[str], environment: Mapping[str, str], until: float, watch: Watch, *, bounded: bool = True
) -> Ended:
    """Run a program to its end, or kill it with its group at ``until`` (time.monotonic()). bounded: also when it prints more
    than OUTPUT_BYTES_MAX, which else is read and dropped. Raises: OSError: no process could be made."""
    process = subprocess.Popen(
        [SHELL, "-c", LAUNCH, SHELL, *argv],
        env=dict(environment),
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdout:
        watch.running(process.pid)
        try:
            process.stdin.write(b"go\n")
            process.stdin.close()
        except BrokenPipeError:
            pass  # killed already
        try:
            output = _Output(process.stdout.fileno(), OUTPUT_BYTES_MAX if bounded else None)
            in_time = _wait(process, output, until)
            killed = not in_time or output.flooded
            if killed:
                kill_group(process.pid)
                _reap(process, time.monotonic() + REAP_S)
            left = not killed and _has_group(process.pid)
        finally:
            watch.stopped(process.pid)
    return Ended(None if killed else process.returncode, output.flooded, left, output.last_line())


def kill_group(group: int) -> None:
    """SIGKILL to whoever is left of it, and is ours to kill: what became another user's, by sudo, is not, where we are not root."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _has_group(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        """They are another user's."""
    return True


def _wait(process: subprocess.Popen[bytes], output: _Output, until: float) -> bool:
    """True: it has ended. False: it has not, or has printed too much."""
    ended = os.pidfd_open(process.pid)
    try:
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        poll.register(output.fd, select.POLLIN)
        while (left_s := until - time.monotonic()) > 0 and not output.flooded:
            ready = {fd for fd, _ in poll.poll(left_s * 1000)}
            if output.fd in ready and not output.take():
                poll.unregister(output.fd)
            if ended in ready:
                output.take_rest()
                process.wait()
                return True
        return False
    finally:
        os.close(ended)


def _reap(process: subprocess.Popen[bytes], until: float) -> None:
    """Popen looks after those that are not dead by then, when the next one is made."""
    while process.poll() is None and time.monotonic() < until:
        time.sleep(REAP_S / 20)


class _Output:
    """What a program prints: the last of it is kept."""

    def __init__(self, fd: int, bytes_max: int | None) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
        self._bytes_max = bytes_max
        self._bytes = 0
        self._kept = b""

    @property
    def flooded(self) -> bool:
        return self._bytes_max is not None and self._bytes > self._bytes_max

    def take(self) -> bool:
        """One piece. False: there is none now, or never again."""
        try:
            piece = os.read(self.fd, PIECE_BYTES)
        except BlockingIOError:
            return False
        self._bytes += len(piece)
        self._kept = (self._kept + piece)[-KEPT_BYTES:]
        return bool(piece)

    def take_rest(self) -> None:
        """What lies in the pipe, and no more: somebody may go on filling it."""
        for _ in range(1 + (1 << 20) // PIECE_BYTES):
            if self.flooded or not self.take():
                return

    def last_line(self) -> str:
        lines = [line for line in self._kept.decode(errors="replace").splitlines() if line.strip()]
        last = lines[-1].strip() if lines else ""
        return "".join(c if c.isprintable() else "?" for c in last)[:LINE_LENGTH_MAX]

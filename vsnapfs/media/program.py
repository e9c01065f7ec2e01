"""A program that a stream goes to, or comes from, watched by a guard of its own (command_guard.py).

Whatever ends this process, the program is dead before it could take a stream that was broken off for a whole one.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from vsnapfs.core.errors import StoreError
from vsnapfs.media.waker import Waker

GUARD = Path(__file__).with_name("command_guard.py")
PIPE_BYTES = 1 << 20
SAID_BYTES = 4096
LINE_LENGTH_MAX = 200
HEAR_S = 1.0
"""What a program has left behind may hold on to its standard error."""
DIE_S_MAX = 10.0


class Ended(msgspec.Struct, frozen=True):
    """What the guard tells of it. status: as wait tells it, negative for a signal; None: it was killed by us."""

    status: int | None = None
    unread: int = 0
    error: str = ""


class Program:
    """It runs from its making until ``ended`` or ``kill``.

    ``fd``: our end of the pipe; ``feed`` has it not blocking. Concurrency: one thread, but ``said``.
    """

    def __init__(
        self, words: Sequence[str], environment: Mapping[str, str], mode: Literal["feed", "read"], name: str
    ) -> None:
        """environment: beside our own. name: for people. Raises: StoreError: no process could be made."""
        self.name = name
        self._kept = b""
        read_fd, write_fd = os.pipe()
        with suppress(OSError):  # a user may have so many pages in pipes
            fcntl.fcntl(write_fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self.fd, theirs = (write_fd, read_fd) if mode == "feed" else (read_fd, write_fd)
        pipe = (str(read_fd if mode == "feed" else -1), str(write_fd))
        command = [sys.executable, "-I", "-S", str(GUARD), mode, *pipe, *words]
        try:
            self._guard = subprocess.Popen(
                command,
                env=dict(os.environ) | dict(environment),
                cwd="/",
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(read_fd, write_fd) if mode == "feed" else (write_fd,),
                start_new_session=True,
            )
        except OSError as error:
            os.close(self.fd)
            raise StoreError(f"cannot run {name}: {error.strerror}") from error
        finally:
            os.close(theirs)
        if mode == "feed":
            os.set_blocking(self.fd, False)
        self._hearing = threading.Thread(target=self._hear, name="command-says", daemon=True)
        self._hearing.start()

    def whole(self, waker: Waker | None = None) -> Ended:
        """The stream has ended, and may be seen to have. Returns, when the program has ended too, how. waker: ends the wait for that.
        Raises: as ``_end``."""
        return self._end(b"whole", waker)

    def short(self) -> Ended:
        """The program has closed the pipe before the stream has ended. Returns, when it has ended, how. Raises: as ``_end``."""
        return self._end(b"short")

    def _end(self, word: bytes, waker: Waker | None = None) -> Ended:
        """Raises: StoreError: the program could not be run, or the guard was killed, or the wait was ended."""
        self._close_pipe()
        assert self._guard.stdin is not None
        assert self._guard.stdout is not None
        with suppress(OSError):
            os.write(self._guard.stdin.fileno(), word)
        if waker is not None and not waker.wait_readable(self._guard.stdout.fileno()):
            raise StoreError(f"{self.name} was given up")
        content = self._guard.stdout.read()
        self.kill()
        found = msgspec.json.decode(content, type=Ended) if content else None
        if found is None:
            raise StoreError(f"{self.name} was killed, and nobody knows how far it came")
        if found.error:
            raise StoreError(f"cannot run {self.name}: {found.error}")
        return found

    def kill(self) -> None:
        """End it, if it has not ended: before it can see that the stream has. Twice is allowed."""
        for line in (self._guard.stdin, self._guard.stdout):
            assert line is not None
            with suppress(OSError):
                line.close()
        with suppress(subprocess.TimeoutExpired):
            self._guard.wait(DIE_S_MAX)
        self._close_pipe()

    def said(self) -> str:
        """The last line of what it said on its standard error; "": nothing."""
        self._hearing.join(HEAR_S)
        lines = [line.strip() for line in self._kept.decode(errors="replace").splitlines() if line.strip()]
        last = lines[-1] if lines else ""
        return "".join(c if c.isprintable() else "?" for c in last)[:LINE_LENGTH_MAX]

    def _hear(self) -> None:
        assert self._guard.stderr is not None
        with self._guard.stderr as stream:
            while piece := os.read(stream.fileno(), SAID_BYTES):
                self._kept = (self._kept + piece)[-SAID_BYTES:]

    def _close_pipe(self) -> None:
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)


def failure(program: Program, found: Ended, what: str = "") -> StoreError:
    """what: it did beside, such as ``ended before it had read everything``; told when its status does not tell."""
    if not found.status:
        told = what
    elif found.status < 0:
        told = f"was ended by signal {-found.status}"
    else:
        told = f"ended with status {found.status}"
    said = program.said()
    return StoreError(f"{program.name} {told}: {said}" if said else f"{program.name} {told}")

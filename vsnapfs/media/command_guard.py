"""The guard of a command that a stream goes to or comes from: starts it, and kills it if who asked gives the stream up, or dies.

``python -I -S command_guard.py feed|read READ_FD WRITE_FD WORD…``. Standard input is a line to who asked, standard output the answer:
one JSON object with ``status`` (as wait tells it, negative for a signal; null: it had to be killed), ``unread`` (bytes of the stream that
the command has left in the pipe), ``error`` (why it could not be run).

``feed``: the pipe is the command's standard input. The guard holds its other end too: so whatever becomes of who asked, the command never
takes a stream that was broken off for a whole one. Its end shows only after the word ``whole`` on the line; when the line ends without
a word, the command is killed first. ``short``: the command has closed the pipe, and is about to end by itself. ``read``: the pipe is the
command's standard output, READ_FD is -1, and ``whole`` means that its end was seen.

What leaves the group of the command becomes the guard's child when its parent ends, and is killed with it. It is run by its path and
knows nothing of the package: it has to start quickly.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from contextlib import suppress

LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
WHOLE = b"whole"
SHORT = b"short"
WORD_BYTES = 5
LINE = 0
SHORT_S_MAX = 2.0
DIE_S_MAX = 5.0
"""A killed process that waits for a disk ends when that answers."""
LOOK_S = 0.01


class Guarded:
    """The command, from its start to its end. ``_mine``: the end of the pipe by which the stream is held open."""

    def __init__(self, mode: str, read_fd: int, write_fd: int, words: list[str]) -> None:
        self._mine = write_fd if mode == "feed" else None
        stdin = read_fd if mode == "feed" else subprocess.DEVNULL
        stdout = subprocess.DEVNULL if mode == "feed" else write_fd
        self._process = subprocess.Popen(
            words,
            stdin=stdin,
            stdout=stdout,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509  the guard has no threads
        )
        os.close(read_fd if mode == "feed" else write_fd)
        self._ended = os.pidfd_open(self._process.pid)

    def watch(self) -> dict[str, object] | None:
        """The answer, when the command has ended and the line says how the stream has. None: it was given up."""
        word = self._word()
        if word == WHOLE:
            self._let_it_end()
        elif word != SHORT:
            return None
        is_over = self._wait_end(None if word == WHOLE else SHORT_S_MAX)
        return {"status": self._process.wait(), "unread": self._unread()} if is_over else {"status": None}

    def _word(self) -> bytes:
        """b"": the line has ended."""
        return os.read(LINE, WORD_BYTES)

    def _wait_end(self, timeout_s: float | None) -> bool:
        """Until the command has ended. False: the line has, or the time."""
        poll = select.poll()
        poll.register(self._ended, select.POLLIN)
        poll.register(LINE, select.POLLIN)
        ready = {fd for fd, _ in poll.poll(None if timeout_s is None else timeout_s * 1000)}
        return self._ended in ready

    def _let_it_end(self) -> None:
        """The stream's end is to be seen. What is left of it afterwards can still be counted."""
        if self._mine is not None:
            counting = os.open(f"/proc/self/fd/{self._mine}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.close(self._mine)
            self._mine = counting

    def _unread(self) -> int:
        if self._mine is None:
            return 0
        count: int = struct.unpack("i", fcntl.ioctl(self._mine, termios.FIONREAD, bytes(4)))[0]
        return count

    def kill(self) -> None:
        """It, and whatever it has started. The pipe is still held when they are dead."""
        end = time.monotonic() + DIE_S_MAX
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        while (found := children()) and time.monotonic() < end:
            for pid in found:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            reap()
            time.sleep(LOOK_S)


def die_with_parent() -> None:
    """Who kills the guard kills the command: whoever asked for it still holds the pipe."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def children() -> list[int]:
    """Processes whose parent is this one, and that have not ended."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError, ValueError), open(f"/proc/{name}/stat", "rb") as file:
                state, parent = file.read().rpartition(b") ")[2].split()[:2]
                if int(parent) == os.getpid() and state != b"Z":
                    found.append(int(name))
    return found


def reap() -> None:
    """All that have ended."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def main() -> None:
    mode, read_fd, write_fd, *words = sys.argv[1:]
    LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # not ignored: the command would inherit that
    try:
        command = Guarded(mode, int(read_fd), int(write_fd), words)
    except (OSError, ValueError) as error:
        answer({"error": str(getattr(error, "strerror", None) or error)})
        return
    said = command.watch()
    if said is None or said["status"] is None:
        command.kill()
    answer(said or {})


def answer(said: dict[str, object]) -> None:
    with suppress(OSError):
        os.write(1, json.dumps(said).encode())


if __name__ == "__main__":
    main()

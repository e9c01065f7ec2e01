"""The warden of one test: a process that starts it, writes down what it prints, and ends with it all that it has started.

``python -I -S warden.py OUTPUT TIMEOUT_S GRACE_S OUTPUT_BYTES_MAX WORD…``. Standard input is a line to who asked: when that ends, by
whatever death, the test is stopped. Standard output gets one JSON object at the end: ``how`` (``ended``, ``timeout``, ``stopped``,
``failed``), ``status`` as wait tells it (negative for a signal; null: it was killed, or never ran), ``left`` (how many processes
it had left behind, which were killed), ``stuck`` (how many did not die), ``error``.

What leaves the group of the test, as servers do, becomes the warden's child when its parent ends, so nothing gets away. It is run
by its path and knows nothing of the package: it has to start quickly.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress

PR_SET_CHILD_SUBREAPER = 36
PIECE_BYTES = 1 << 16
DIE_S_MAX = 10.0
"""A killed process that waits for a disk ends when that answers."""
LOOK_S = 0.01
POLL_S_MAX = 3600.0
"""poll(2) takes no more than some weeks."""
CUT = b"\n[vsnapfs: the rest of what it printed is not kept]\n"


class Output:
    """What the test prints, to a file, up to a bound; the rest is read and dropped. ``end``: for the test to print to."""

    def __init__(self, path: str, bytes_max: int) -> None:
        self.source, self.end = os.pipe()
        os.set_blocking(self.source, False)
        self._target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._room = bytes_max

    def take(self) -> bool:
        """One piece. False: there is none now, or never again."""
        try:
            piece = os.read(self.source, PIECE_BYTES)
        except BlockingIOError:
            return False
        if piece and self._room > 0:
            kept = piece[: self._room]
            self._room -= len(kept)
            self._put(kept if self._room else kept + CUT)
        return bool(piece)

    def _put(self, piece: bytes) -> None:
        try:
            while piece:
                piece = piece[os.write(self._target, piece) :]
        except OSError:
            self._room = 0  # a full disk loses what is printed, not the verdict


def children() -> list[int]:
    """Processes whose parent is this one, and that have not ended."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    state, parent = file.read().rpartition(b") ")[2].split()[:2]
            except (OSError, ValueError):
                continue
            if int(parent) == os.getpid() and state != b"Z":
                found.append(int(name))
    return found


def reap() -> bool:
    """All that have ended. False: there are no others. One that starts another and ends at once is missed by ``children``, not here."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def kill_all() -> int:
    """Kill every child, and what becomes one by that. Returns: how many do not die."""
    end = time.monotonic() + DIE_S_MAX
    while reap():
        found = children()
        if time.monotonic() > end:
            return max(1, len(found))
        for pid in found:
            signalled(lambda pid=pid: os.kill(pid, signal.SIGKILL))  # type: ignore[misc]
        time.sleep(LOOK_S)
    return 0


def signalled(send: Callable[[], None]) -> None:
    """Send a signal to whoever is still there and may be told."""
    try:
        send()
    except (ProcessLookupError, PermissionError):
        """It has ended, or is another user's."""


class Watched:
    """The test, from its start to its end."""

    def __init__(self, words: list[str], output: str, bytes_max: int) -> None:
        self._output = Output(output, bytes_max)  # first: a test that nobody could listen to is not begun
        self._process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=self._output.end, stderr=subprocess.STDOUT, start_new_session=True
        )
        os.close(self._output.end)
        self._ended = os.pidfd_open(self._process.pid)

    def wait(self, until: float, line: int | None) -> str:
        """``ended``, ``timeout`` at ``until``, or ``stopped`` when the line ends."""
        poll = select.poll()
        for fd in (self._ended, self._output.source, *([] if line is None else [line])):
            poll.register(fd, select.POLLIN)
        while (left_s := until - time.monotonic()) > 0:
            ready = {fd for fd, _ in poll.poll(min(left_s, POLL_S_MAX) * 1000)}
            if self._output.source in ready and not self._output.take():
                poll.unregister(self._output.source)
            if self._ended in ready:
                return "ended"
            if line is not None and line in ready and not os.read(line, PIECE_BYTES):
                return "stopped"
        return "timeout"

    def status(self) -> int:
        return self._process.wait()

    def ask_to_end(self, grace_s: float) -> None:
        """SIGTERM to its group, and so much time to tidy up."""
        signalled(lambda: os.killpg(self._process.pid, signal.SIGTERM))
        self.wait(time.monotonic() + grace_s, None)

    def take_rest(self) -> None:
        """What lies in the pipe."""
        while self._output.take():
            pass


def attend(words: list[str], output: str, timeout_s: float, grace_s: float, bytes_max: int) -> dict[str, object]:
    """Run the test to its end. Returns: what is told of it."""
    told: dict[str, object] = {"how": "failed", "status": None, "left": 0, "stuck": 0, "error": ""}
    try:
        test = Watched(words, output, bytes_max)
    except OSError as error:
        return told | {"stuck": kill_all(), "error": f"{error.filename or words[0]}: {error.strerror}"}
    how = test.wait(time.monotonic() + timeout_s, sys.stdin.fileno())
    if how == "ended":
        told["status"] = test.status()
        told["left"] = len(children())
    else:
        test.ask_to_end(grace_s)
    told["stuck"] = kill_all()
    test.take_rest()
    return told | {"how": how}


def main() -> None:
    output, timeout_s, grace_s, bytes_max, *words = sys.argv[1:]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # not SIG_IGN, which the test would inherit
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    told = attend(words, output, float(timeout_s), float(grace_s), int(bytes_max))
    with suppress(BrokenPipeError):  # who asked was killed
        os.write(1, json.dumps(told).encode())


if __name__ == "__main__":
    main()

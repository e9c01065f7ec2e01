"""The guard: a process beside the freezer that thaws what the freezer has frozen, if the freezer dies, by whatever signal, or
does not do what it should at the deadline.

It is forked by the freezer before anything is begun, and told, before each step, what that step may leave behind: how a member
is thawed, which group of processes runs, when it has to hear of the next. What was sent is there even if the sender is dead by
the time it is read. So the end of the line is all that it waits for; then it kills what runs, and thaws what it was not told
to forget.

One thing cannot be told: that a freeze was refused because somebody else had frozen the filesystem, if the freezer is killed in
the few instructions between the kernel's answer and the word to forget it. Then the guard thaws what was not ours. Left
frozen would be worse.

The freezer sees the guard's death as the guard sees its: then it thaws at once. If both are killed at the same instant nobody is
left to.
"""

from __future__ import annotations

import array
import os
import select
import signal
import socket
import subprocess
import time
from contextlib import suppress
from typing import NamedTuple, TypeAlias

import msgspec

from vsnapfs.quiesce.fsfreeze import thaw_by
from vsnapfs.quiesce.member import THAW_S_MAX, CommandLifeline, Lifeline, MountLifeline
from vsnapfs.quiesce.program import kill_group
from vsnapfs.quiesce.resident import stay_in_memory

GRACE_S = 0.25
"""The freezer may be so late, counted from when the guard looks: what holds up the whole machine holds up both. And so long the thaw of
one holds up the next."""
RETRY_S = 0.05
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""They end neither before all is thawed."""
MESSAGE_BYTES_MAX = 1 << 18
"""The words of a command, and what it is told in its environment."""


class Hold(msgspec.Struct, tag="hold"):
    """Thaw it so. A descriptor comes along where there is no argv."""

    index: int
    argv: tuple[str, ...] = ()
    environment: dict[str, str] = {}


class Forget(msgspec.Struct, tag="forget"):
    index: int


class Running(msgspec.Struct, tag="running"):
    group: int


class Stopped(msgspec.Struct, tag="stopped"):
    group: int


class Expect(msgspec.Struct, tag="expect"):
    """The freezer says before ``until`` (time.monotonic()) how it goes on, or ends."""

    until: float


Message: TypeAlias = Hold | Forget | Running | Stopped | Expect


class GuardLine:
    """The freezer's end. Threads: any. What cannot be told shows as the end of the line."""

    def __init__(self, line: socket.socket, pid: int) -> None:
        self._line = line
        self._groups: set[int] = set()
        self.pid = pid

    def fileno(self) -> int:
        return self._line.fileno()

    def hold(self, index: int, lifeline: Lifeline) -> None:
        if isinstance(lifeline, MountLifeline):
            self._send(Hold(index), lifeline.fd)
        else:
            self._send(Hold(index, lifeline.argv, lifeline.environment))

    def forget(self, index: int) -> None:
        self._send(Forget(index))

    def running(self, group: int) -> None:
        self._groups.add(group)
        self._send(Running(group))

    def stopped(self, group: int) -> None:
        self._groups.discard(group)
        self._send(Stopped(group))

    def kill_running(self) -> None:
        for group in list(self._groups):
            kill_group(group)

    def expect(self, until: float) -> None:
        self._send(Expect(until))

    def close(self) -> None:
        """What is still held is thawed, once more. Waits for the guard's end for as long as a thaw may take."""
        self._line.close()
        end = time.monotonic() + THAW_S_MAX + 1
        with suppress(ChildProcessError):
            while os.waitpid(self.pid, os.WNOHANG) == (0, 0) and time.monotonic() < end:
                time.sleep(0.005)

    def _send(self, message: Message, fd: int | None = None) -> None:
        rights = [] if fd is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
        try:
            self._line.sendmsg([msgspec.json.encode(message)], rights, socket.MSG_DONTWAIT)
        except OSError:  # it has died, or stands still: as good as dead
            with suppress(OSError):
                self._line.shutdown(socket.SHUT_RDWR)


def start() -> GuardLine:
    """Fork the guard; this process has no other thread yet. What else it has open the guard closes: its end must show."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * MESSAGE_BYTES_MAX)
    freezer = os.getpid()
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    pid = os.fork()
    if pid == 0:
        try:
            for number in SIGNALS:
                signal.signal(number, lambda *_: None)  # not ignored: a command that it runs would inherit that
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            os.setsid()
            kept = theirs.fileno()
            os.closerange(3, kept)
            os.closerange(kept + 1, 1 << 16)
            stay_in_memory("vsnapfs-guard")
            _Guard(theirs, freezer).watch()
        finally:
            os._exit(0)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    theirs.close()
    return GuardLine(ours, pid)


class _Held(NamedTuple):
    fd: int
    command: CommandLifeline | None


class _Guard:
    def __init__(self, line: socket.socket, freezer: int) -> None:
        self._line = line
        self._freezer = freezer
        self._held: dict[int, _Held] = {}
        self._groups: set[int] = set()
        self._until: float | None = None

    def watch(self) -> None:
        """Until the freezer is gone, and everything is thawed."""
        while self._take(self._until):
            if self._is_late():
                self._be_done_with_it()
        self._kill_groups()
        self._thaw()

    def _is_late(self) -> bool:
        """The freezer has had its time and the grace, and nothing that it said before is unread."""
        return self._until is not None and time.monotonic() >= self._until and not self._hears(GRACE_S)

    def _hears(self, seconds: float | None) -> bool:
        """Until there is a message, or the end of the line. False: there was none for so long."""
        poll = select.poll()
        poll.register(self._line, select.POLLIN)
        return bool(poll.poll(None if seconds is None else seconds * 1000))

    def _take(self, until: float | None) -> bool:
        """A message, or ``until``. False: the freezer is gone."""
        if not self._hears(None if until is None else max(0.0, until - time.monotonic())):
            return True
        try:
            content, fds, _, _ = socket.recv_fds(self._line, MESSAGE_BYTES_MAX, 1)
        except OSError:
            return False
        if not content:
            return False
        self._heed(msgspec.json.decode(content, type=Message), fds)
        return True

    def _heed(self, message: Message, fds: list[int]) -> None:
        match message:
            case Hold(index, argv, environment):
                self._drop(index)
                self._held[index] = _Held(fds[0], None) if fds else _Held(-1, CommandLifeline(argv, environment))
            case Forget(index):
                self._drop(index)
            case Running(group):
                self._groups.add(group)
            case Stopped(group):
                self._groups.discard(group)
            case Expect(until):
                self._until = until

    def _drop(self, index: int) -> None:
        held = self._held.pop(index, None)
        if held is not None and held.fd >= 0:
            os.close(held.fd)

    def _be_done_with_it(self) -> None:
        """The freezer stands still itself. What it is at in the kernel ends in its own time, so filesystems are thawed again and
        again until it is gone."""
        while os.getppid() == self._freezer:
            os.kill(self._freezer, signal.SIGKILL)
            self._kill_groups()
            self._thaw_mounts()
            if not self._take(time.monotonic() + RETRY_S):
                break
        self._until = None

    def _kill_groups(self) -> None:
        for group in self._groups:
            kill_group(group)
        self._groups.clear()

    def _thaw_mounts(self) -> None:
        for held in self._held.values():
            if held.fd >= 0:
                with suppress(OSError):
                    thaw_by(held.fd)

    def _thaw(self) -> None:
        """In reverse. A command holds the next up only for a moment."""
        running: list[subprocess.Popen[bytes]] = []
        for index in sorted(self._held, reverse=True):
            held = self._held[index]
            if held.command is None:
                with suppress(OSError):
                    thaw_by(held.fd)
                continue
            with suppress(OSError):
                process = _started(held.command)
                running.append(process)
                _wait(process, GRACE_S)
        end = time.monotonic() + THAW_S_MAX
        for process in running:
            _wait(process, end - time.monotonic())
            if process.returncode is None:
                kill_group(process.pid)


def _started(command: CommandLifeline) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command.argv,
        env=dict(os.environ) | command.environment,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    with suppress(subprocess.TimeoutExpired):
        process.wait(max(0.0, seconds))

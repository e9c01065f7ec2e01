"""The freezer: ``python -m vsnapfs.quiesce.freezer FD``, a process for one freeze.

It has the timer, and touches nothing that it freezes: what it needs is imported and locked in memory before the first
freeze, its directory is /, and it writes no file and to no terminal; all it has to say goes through the socket FD to
whoever started it (messages.py). A second process, the guard, thaws if it dies.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from types import FrameType

import msgspec

from vsnapfs.quiesce import guard, messages
from vsnapfs.quiesce.freeze import Freeze, Noise
from vsnapfs.quiesce.members import member_of
from vsnapfs.quiesce.resident import stay_in_memory


class Ears:
    """What the freezer hears: each death once."""

    def __init__(self, asker: socket.socket, guard_line: guard.GuardLine) -> None:
        self._asker = asker
        self._guard_fd = guard_line.fileno()
        self._woken = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._signalled = False
        self._poll = select.poll()
        for fd in (self._woken, asker.fileno(), self._guard_fd):
            self._poll.register(fd, select.POLLIN)

    def wake(self) -> None:
        os.eventfd_write(self._woken, 1)

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._signalled = True
        self.wake()

    def hear(self, until: float) -> Noise:
        """What counts more comes first: a mark that was made before all were told to thaw is good, however late it is read."""
        ready = {fd for fd, _ in self._poll.poll(max(0.0, until - time.monotonic()) * 1000)}
        if self._asker.fileno() in ready:
            return self._from_asker()
        if self._guard_fd in ready:
            self._poll.unregister(self._guard_fd)
            return "guard"
        if self._woken in ready:
            os.eventfd_read(self._woken)
            if self._signalled:
                self._signalled = False
                return "signal"
            return "woken"
        return "time" if time.monotonic() >= until else "woken"

    def _from_asker(self) -> Noise:
        if messages.receive(self._asker):
            return "thaw"
        self._poll.unregister(self._asker)
        return "asker"

    def remark(self, text: str) -> None:
        self.say(messages.Remark(text))

    def say(self, message: messages.FromFreezer) -> None:
        with suppress(OSError):
            messages.send(self._asker, message)


def main(fd: int) -> None:
    """Do what the asker wants, once."""
    asker = socket.socket(fileno=fd)
    content = messages.receive(asker)
    if not content:
        return
    job = msgspec.json.decode(content, type=messages.Job)
    _let_go()
    guard_line = guard.start()
    ears = Ears(asker, guard_line)
    for number in guard.SIGNALS:
        signal.signal(number, ears.on_signal)
    if not stay_in_memory("vsnapfs-freezer"):
        ears.remark("the freezer is not locked in memory: it may have to wait for a disk")
    members = [member_of(m, job.occasion, job.grounds, guard_line, ears.remark) for m in job.profile.members]
    Freeze(members, job.profile.deadline_s, ears, guard_line).run()
    asker.close()
    guard_line.close()


def _let_go() -> None:
    """Of the directory and the terminal of whoever started this."""
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(null, standard)
    os.close(null)


if __name__ == "__main__":
    main(int(sys.argv[1]))

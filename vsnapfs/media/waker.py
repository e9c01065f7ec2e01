"""Writes to who may never read, and waits for who may never write, which another thread can end."""

from __future__ import annotations

import os
import select
import threading

from vsnapfs.media.tape import Readable


class Waker:
    """Concurrency: one thread writes or waits, any wakes it. Resource handling: ``close``."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_CLOEXEC)
        self._closing = threading.Lock()

    def wake(self) -> None:
        """From now on nothing waits. Allowed when it is closed."""
        with self._closing:
            if self._fd >= 0:
                os.eventfd_write(self._fd, 1)

    def write_all(self, fd: int, block: Readable) -> bool:
        """fd: one that does not block. False: it was woken before all was written. Raises: OSError."""
        rest = memoryview(block).cast("B")
        while rest:
            try:
                rest = rest[os.write(fd, rest) :]
            except BlockingIOError:
                if not self._wait(fd, select.POLLOUT):
                    return False
        return True

    def wait_readable(self, fd: int) -> bool:
        """Until there is something, or the end. False: it was woken."""
        return self._wait(fd, select.POLLIN)

    def _wait(self, fd: int, event: int) -> bool:
        poll = select.poll()
        poll.register(fd, event)
        poll.register(self._fd, select.POLLIN)
        return self._fd not in {ready for ready, _ in poll.poll()}

    def close(self) -> None:
        """Twice is allowed."""
        with self._closing:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

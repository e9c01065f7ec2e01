"""Writes to who may never read, which another thread can end."""

from __future__ import annotations

import os
import select

from vsnapfs.media.tape import Readable


class Waker:
    """Concurrency: one thread writes, any wakes it. Resource handling: ``close``."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_CLOEXEC)

    def wake(self) -> None:
        """From now on no write waits."""
        os.eventfd_write(self._fd, 1)

    def write_all(self, fd: int, block: Readable) -> bool:
        """fd: one that does not block. False: it was woken before all was written. Raises: OSError."""
        rest = memoryview(block).cast("B")
        while rest:
            try:
                rest = rest[os.write(fd, rest) :]
            except BlockingIOError:
                if not self._wait_writable(fd):
                    return False
        return True

    def _wait_writable(self, fd: int) -> bool:
        poll = select.poll()
        poll.register(fd, select.POLLOUT)
        poll.register(self._fd, select.POLLIN)
        return self._fd not in {ready for ready, _ in poll.poll()}

    def close(self) -> None:
        """Twice is allowed."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

"""Have what was written go to the disk meanwhile, and out of the page cache: an archive is not read again soon, and whoever else uses the
machine keeps their cache. Without it the sync at the end stands still for all of a piece.
"""

from __future__ import annotations

import os

STEP_BYTES = 16 << 20


class Writeback:
    """Of one file that is written from some place on, without seeking. fd: borrowed."""

    def __init__(self, fd: int, offset_bytes: int = 0) -> None:
        self._fd = fd
        self._at = offset_bytes
        self._asked = offset_bytes

    def wrote(self, size_bytes: int) -> None:
        """So much more is written."""
        self._at += size_bytes
        if self._at - self._asked >= STEP_BYTES:
            # The step before is on the disk by now, and can leave the cache; of the last one the kernel begins to write.
            start = max(self._asked - STEP_BYTES, 0)
            os.posix_fadvise(self._fd, start, self._at - start, os.POSIX_FADV_DONTNEED)
            self._asked = self._at

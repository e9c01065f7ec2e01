"""A tape file that is a file, read from its beginning on: from its disk, not from what memory still has of it."""

from __future__ import annotations

import errno
import os

from vsnapfs.core.errors import from_os_error
from vsnapfs.media.tape import DamagedBlockError, Writable


class FileReader:
    """See media.tape.TapeReader. A part that the disk cannot read is passed over in blocks."""

    BLOCK_BYTES = 4096

    def __init__(self, fd: int, name: str) -> None:
        self._fd = fd
        self._name = name
        self._offset = 0
        self._size = os.fstat(fd).st_size
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def readinto(self, buffer: Writable) -> int:
        view = memoryview(buffer).cast("B")
        try:
            count = os.preadv(self._fd, [view], self._offset)
        except OSError as error:
            if error.errno != errno.EIO:
                raise from_os_error(error, f"read {self._name}") from error
            count = self._good_part(view)
        self._offset += count
        return count

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _good_part(self, view: memoryview) -> int:
        """A disk refuses all of what was asked for, however little of it is bad: what stands before the first bad block."""
        done = 0
        while done < len(view):
            at = self._offset + done
            try:
                count = os.preadv(self._fd, [view[done : done + self.BLOCK_BYTES - at % self.BLOCK_BYTES]], at)
            except OSError as error:
                if done:
                    return done
                length = min(self.BLOCK_BYTES - at % self.BLOCK_BYTES, self._size - at)
                self._offset += length
                what = f"{self._name} cannot be read at {at}: {error.strerror}"
                raise DamagedBlockError(what, offset_bytes=at, length_bytes=length) from error
            if not count:
                return done
            done += count
        return done

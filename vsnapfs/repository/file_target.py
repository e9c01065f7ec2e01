"""An open file or block device as a target (bring.py)."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from vsnapfs.binding import Store
from vsnapfs.core.errors import BusyError, IntegrityError, NoSpaceError, VsnapfsError, from_os_error
from vsnapfs.repository.sparse import Span, data_spans, read_up_to


class FileTarget:
    """The first ``size_bytes`` of what is open at ``fd``, for reading and writing; it stays the caller's. path: for errors."""

    def __init__(self, store: Store, fd: int, size_bytes: int, path: str) -> None:
        self._store, self._fd, self._size_bytes, self._path = store, fd, size_bytes, path

    def held(self) -> Iterator[Span]:
        """Where it may hold something else than zeros."""
        with self._named("read"):
            yield from data_spans(self._fd, self._size_bytes)

    def require_room(self, data_bytes: int) -> None:
        """Raises: NoSpaceError: its filesystem has less free than it lacks to hold so much data. Who is not root may have
        less than is free."""
        with self._named("look at"):
            found, disk = os.fstat(self._fd), os.fstatvfs(self._fd)
        free_bytes = (disk.f_bavail if os.geteuid() else disk.f_bfree) * disk.f_frsize
        lacking = data_bytes - found.st_blocks * 512
        if stat.S_ISREG(found.st_mode) and lacking > free_bytes:
            raise NoSpaceError(f"{self._path} needs {lacking} bytes more, {free_bytes} are free", hint="make room")

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        with self._named("read"):
            content = read_up_to(self._fd, length_bytes, offset_bytes)
        if len(content) != length_bytes:
            raise self._shorter()
        return content

    def write(self, offset_bytes: int, content: bytes) -> None:
        left = memoryview(content)
        with self._named("write"):
            while left:
                done = os.pwrite(self._fd, left, offset_bytes)
                offset_bytes, left = offset_bytes + done, left[done:]

    def zero(self, offset_bytes: int, length_bytes: int) -> None:
        """Without space where that can be had."""
        self._store.zero(self._fd, offset_bytes, length_bytes)

    def settle(self) -> None:
        with self._named("write"):
            os.fdatasync(self._fd)
            size_bytes = os.lseek(self._fd, 0, os.SEEK_END)
        if size_bytes < self._size_bytes:
            raise self._shorter()

    def read_back(self, offset_bytes: int, length_bytes: int) -> bytes:
        with self._named("read"):
            os.posix_fadvise(self._fd, offset_bytes, length_bytes, os.POSIX_FADV_DONTNEED)
        return self.read(offset_bytes, length_bytes)

    def mismatch(self, offset_bytes: int) -> VsnapfsError:
        return IntegrityError(
            f"{self._path} does not read back at {offset_bytes} as it was written",
            offset_bytes=offset_bytes,
            hint="see whether its disk is sound, and whether somebody else writes to it",
        )

    def _shorter(self) -> BusyError:
        return BusyError(f"{self._path} became shorter while it was written", hint="stop whoever uses it")

    @contextmanager
    def _named(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise from_os_error(error, f"{doing} {self._path}") from error

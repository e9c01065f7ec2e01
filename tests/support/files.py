"""What tests do to open files that Python's os has no call for, and what is told apart about their holes."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.reference import Image, Kind

FALLOC_FL_KEEP_SIZE = 1
FALLOC_FL_PUNCH_HOLE = 2

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


def fallocate(fd: int, mode: int, offset_bytes: int, length_bytes: int) -> None:
    """fallocate(2) with any mode. Raises: OSError."""
    if _libc.fallocate(fd, mode, offset_bytes, length_bytes) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def punch(fd: int, offset_bytes: int, length_bytes: int) -> None:
    """Discard a range, as a filesystem on a loop device does."""
    fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset_bytes, length_bytes)


@contextmanager
def opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    """A descriptor for the length of a block."""
    fd = os.open(path, flags)
    try:
        yield fd
    finally:
        os.close(fd)


def pread_all(fd: int, length_bytes: int, offset_bytes: int = 0) -> bytes:
    """Read until it is all there or the file ends."""
    parts: list[bytes] = []
    while length_bytes > 0:
        part = os.pread(fd, length_bytes, offset_bytes)
        if not part:
            break
        parts.append(part)
        offset_bytes += len(part)
        length_bytes -= len(part)
    return b"".join(parts)


def pwrite_all(fd: int, content: bytes, offset_bytes: int) -> None:
    """One write(2), which has to be complete."""
    assert os.pwrite(fd, content, offset_bytes) == len(content)


def data_ranges(fd: int) -> list[tuple[int, int]]:
    """What lseek says holds data: (offset, length), in order."""
    ranges: list[tuple[int, int]] = []
    at = 0
    while True:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return ranges
            raise
        at = os.lseek(fd, start, os.SEEK_HOLE)
        ranges.append((start, at - start))


def assert_shows(fd: int, image: Image) -> None:
    """The open file of a mount is exactly this volume: size, bytes, and what it says it holds."""
    found = os.fstat(fd)
    assert found.st_size == image.size_bytes
    assert pread_all(fd, image.size_bytes + 1) == image.content
    assert found.st_blocks == (image.data_bytes + 511) // 512
    assert data_ranges(fd) == [(r.offset_bytes, r.length_bytes) for r in image.runs() if r.kind == Kind.DATA]

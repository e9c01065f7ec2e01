"""Volumes out of the repository: a raw image, or what changed as a tar stream.

A target is a descriptor or an open file. A regular file that is written from its end on becomes sparse; everything
else gets all the zeros. What names the file, and what becomes of it when this fails, is up to who opened it.
"""

from __future__ import annotations

import fcntl
import io
import os
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Protocol

import msgspec

from vsnapfs.binding import RunKind, View
from vsnapfs.core.errors import from_os_error
from vsnapfs.core.model import Extent, VolumeDiff
from vsnapfs.core.state import Progress
from vsnapfs.core.times import NS_PER_S
from vsnapfs.repository.parts import Report

PIECE_BYTES = 1 << 20
TAR_BUFFER_BYTES = 1 << 20
MEMBER_MODE = 0o444

Target = int | BinaryIO
"""Stays the caller's."""


class Sink(Protocol):
    """Where the bytes go, in order."""

    def write(self, content: bytes | memoryview) -> int: ...
    def hole(self, length_bytes: int) -> None: ...
    def finish(self) -> None: ...


def export_image(view: View, name: str, target: Target, report: Report) -> None:
    """Write a volume as a raw image. Raises: CorruptExtentError. StoreError: pipe closed. NoSpaceError."""
    with _opened(target) as sink:
        piece = bytearray(PIECE_BYTES)
        for run in view.runs():
            if run.kind == RunKind.DATA:
                for at, part in _parts(run.offset_bytes, run.length_bytes, piece):
                    view.readinto(at, part)
                    sink.write(part)
                    _tell(report, name, at + len(part), view.size_bytes)
            else:
                sink.hole(run.length_bytes)
                _tell(report, name, run.offset_bytes + run.length_bytes, view.size_bytes)
        sink.finish()


def export_diff(diff: VolumeDiff, view: View, target: Target, report: Report) -> None:
    """Write a POSIX tar stream of two members: ``VOLUME.json``, the diff, and ``VOLUME.extents``, the bytes of its
    extents that are not zero, one after the other. The same diff gives the same bytes. view: the volume at
    ``diff.until``. Raises: as above.
    """
    described = msgspec.json.encode(diff)
    data = [extent for extent in diff.extents if not extent.zero]
    with _opened(target) as sink:
        stream = _SinkFile(sink)
        with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT, bufsize=TAR_BUFFER_BYTES) as tar:
            tar.addfile(_member(diff, ".json", len(described)), io.BytesIO(described))
            total = sum(extent.length_bytes for extent in data)
            tar.addfile(_member(diff, ".extents", total), _ExtentFile(view, data, diff.volume, total, report))
        sink.finish()


class _Plain:
    """Writes zeros where there is a hole."""

    def __init__(self, out: int | BinaryIO) -> None:
        self._out = out

    def write(self, content: bytes | memoryview) -> int:
        left = memoryview(content)
        while left:
            left = left[os.write(self._out, left) if isinstance(self._out, int) else self._out.write(left) :]
        return len(content)

    def hole(self, length_bytes: int) -> None:
        zeros = bytes(min(length_bytes, PIECE_BYTES))
        for at in range(0, length_bytes, PIECE_BYTES):
            self.write(memoryview(zeros)[: length_bytes - at])

    def finish(self) -> None:
        """Nothing is kept back."""


class _Sparse(_Plain):
    """Leaves holes out of a regular file that ends where writing begins."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self._fd = fd

    def hole(self, length_bytes: int) -> None:
        os.lseek(self._fd, length_bytes, os.SEEK_CUR)

    def finish(self) -> None:
        os.ftruncate(self._fd, os.lseek(self._fd, 0, os.SEEK_CUR))


class _SinkFile(io.RawIOBase):
    """A sink as tarfile wants it."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def writable(self) -> bool:
        return True

    def write(self, content: bytes) -> int:  # type: ignore[override]
        return self._sink.write(content)


class _ExtentFile(io.RawIOBase):
    """The bytes of extents, one after the other, as a file to read."""

    def __init__(self, view: View, extents: list[Extent], volume: str, total_bytes: int, report: Report) -> None:
        self._pieces = _bytes_of(view, extents)
        self._left = memoryview(b"")
        self._volume = volume
        self._total_bytes = total_bytes
        self._done_bytes = 0
        self._report = report

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes, all that are left with -1; b"" at the end."""
        found = bytearray()
        while size < 0 or len(found) < size:
            if not self._left:
                self._left = memoryview(next(self._pieces, b""))
            if not self._left:
                break
            taken = self._left[: size - len(found)] if size >= 0 else self._left
            found += taken
            self._left = self._left[len(taken) :]
        self._done_bytes += len(found)
        _tell(self._report, self._volume, self._done_bytes, self._total_bytes)
        return bytes(found)


def _bytes_of(view: View, extents: list[Extent]) -> Iterator[bytes]:
    for extent in extents:
        end = extent.offset_bytes + extent.length_bytes
        for at in range(extent.offset_bytes, end, PIECE_BYTES):
            yield view.read(at, min(PIECE_BYTES, end - at))


def _member(diff: VolumeDiff, suffix: str, size_bytes: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(diff.volume + suffix)
    member.size = size_bytes
    member.mtime = diff.until.time_ns // NS_PER_S
    member.mode = MEMBER_MODE
    return member


def _parts(offset_bytes: int, length_bytes: int, piece: bytearray) -> Iterator[tuple[int, memoryview]]:
    end = offset_bytes + length_bytes
    for at in range(offset_bytes, end, PIECE_BYTES):
        yield at, memoryview(piece)[: min(PIECE_BYTES, end - at)]


def _tell(report: Report, name: str, done: int, total: int) -> None:
    if report is not None:
        report(Progress(what=f"export of {name}", done=done, total=total))


@contextmanager
def _opened(target: Target) -> Iterator[Sink]:
    """The target as a sink; every OSError in the body is one about it."""
    try:
        yield _sink_of(target)
    except OSError as error:
        raise from_os_error(error, "write the output") from error


def _sink_of(out: int | BinaryIO) -> Sink:
    fd = out if isinstance(out, int) else _fd_of(out)
    if fd is None:
        return _Plain(out)
    found = os.fstat(fd)
    appending = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND
    if stat.S_ISREG(found.st_mode) and not appending and os.lseek(fd, 0, os.SEEK_CUR) >= found.st_size:
        return _Sparse(fd)
    return _Plain(fd)


def _fd_of(out: BinaryIO) -> int | None:
    try:
        out.flush()
        return out.fileno()
    except (AttributeError, io.UnsupportedOperation):
        return None

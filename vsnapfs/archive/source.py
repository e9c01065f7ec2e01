"""What an archive reads: a volume at a point, what changed of it, or an image file."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from vsnapfs.archive.extents import Span, in_blocks
from vsnapfs.binding import RunKind, View
from vsnapfs.core.errors import CorruptExtentError, from_os_error
from vsnapfs.core.model import Volume, VolumeAt, VolumeDiff
from vsnapfs.core.times import parse_iso


class Source(Protocol):
    """One volume, which never changes. Any thread may read; the runs may be asked for any number of times."""

    @property
    def name(self) -> str: ...

    @property
    def id(self) -> int:
        """In its repository."""

    @property
    def size_bytes(self) -> int: ...

    @property
    def block_bytes(self) -> int:
        """What it looks like to its users: 512 or 4096."""

    @property
    def mtime_ns(self) -> int:
        """Of its last write."""

    @property
    def changes(self) -> bool:
        """True: the runs are what changed since another point; false: what none covers is zeros."""

    def runs(self) -> Iterator[Span]:
        """By offset, in blocks of 4 KiB at least. Zero ones only of changes."""

    def readinto(self, offset_bytes: int, buffer: memoryview) -> None:
        """Fill a buffer, which must end in the volume. Raises: CorruptExtentError: names the volume and the bytes. StoreError."""


class ViewSource:
    """A volume at a point, whole. The view stays the caller's, and open."""

    changes = False

    def __init__(self, view: View, volume: Volume, at: VolumeAt) -> None:
        self.name = volume.name
        self.id = volume.id
        self.size_bytes = at.size_bytes
        self.block_bytes = volume.block_size_bytes
        self.mtime_ns = parse_iso(at.last_write_time)
        self._view = view

    def runs(self) -> Iterator[Span]:
        return in_blocks(self._data(), self.size_bytes)

    def _data(self) -> Iterator[Span]:
        for run in self._view.runs():
            if run.kind == RunKind.DATA:
                yield Span(run.offset_bytes, run.length_bytes)

    def readinto(self, offset_bytes: int, buffer: memoryview) -> None:
        try:
            filled = self._view.readinto(offset_bytes, buffer)
        except CorruptExtentError as error:
            raise damaged(self.name, offset_bytes, len(buffer), error) from error
        if filled != len(buffer):
            raise ValueError(f"volume {self.name} ended at {offset_bytes + filled}")


class ChangeSource(ViewSource):
    """What changed of a volume between two points. The view is of the later one."""

    changes = True

    def __init__(self, view: View, volume: Volume, at: VolumeAt, diff: VolumeDiff) -> None:
        super().__init__(view, volume, at)
        self._diff = diff

    def runs(self) -> Iterator[Span]:
        spans = (Span(extent.offset_bytes, extent.length_bytes, extent.zero) for extent in self._diff.extents)
        return in_blocks(spans, self.size_bytes)


class ImageSource:
    """An image file, whole; what the filesystem knows to be a hole is none of its runs."""

    changes = False

    def __init__(self, path: Path, *, name: str, id: int, block_bytes: int, mtime_ns: int) -> None:  # noqa: A002
        """Raises: StoreError, NotFoundError, PermissionDeniedError."""
        self.name = name
        self.id = id
        self.block_bytes = block_bytes
        self.mtime_ns = mtime_ns
        self._path = path
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise from_os_error(error, f"read {path}") from error
        self.size_bytes = os.lseek(self._fd, 0, os.SEEK_END)

    def runs(self) -> Iterator[Span]:
        return in_blocks(self._data(), self.size_bytes)

    def _data(self) -> Iterator[Span]:
        at = 0
        while at < self.size_bytes:
            try:
                start = os.lseek(self._fd, at, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # holes up to the end
                    return
                raise from_os_error(error, f"read {self._path}") from error
            at = os.lseek(self._fd, start, os.SEEK_HOLE)
            yield Span(start, at - start)

    def readinto(self, offset_bytes: int, buffer: memoryview) -> None:
        done = 0
        while done < len(buffer):
            try:
                got = os.preadv(self._fd, [buffer[done:]], offset_bytes + done)
            except OSError as error:
                raise from_os_error(error, f"read {self._path}") from error
            if not got:
                raise ValueError(f"{self._path} ended at {offset_bytes + done}")
            done += got

    def close(self) -> None:
        """Twice is not allowed."""
        os.close(self._fd)


def damaged(name: str, offset_bytes: int, length_bytes: int, error: CorruptExtentError) -> CorruptExtentError:
    """The error of a read, naming the volume and what was to be read of it."""
    end = offset_bytes + length_bytes
    return CorruptExtentError(
        f"volume {name} is damaged within bytes {offset_bytes} to {end}: {error.message}",
        volume=name,
        seqno=error.seqno,
        segment=error.segment,
        offset_bytes=error.offset_bytes,
        hint="`vsnapfs check --read-data` says which points it costs",
    )

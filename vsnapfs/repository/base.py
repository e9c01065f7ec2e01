"""Base images: what a volume held when it was added, shared with its source where the filesystem can, copied where
not.

Both files are built under names that end in ``.part`` and get their own names when they are on stable storage, the
index last: where there is an index, there is a base.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import ExitStack

from vsnapfs.binding import BaseBuilder, View
from vsnapfs.catalog.index import VolumeEntry
from vsnapfs.core.errors import BusyError, IntegrityError, from_os_error
from vsnapfs.core.model import Progress
from vsnapfs.repository.layout import PART, base_image, base_index
from vsnapfs.repository.parts import Parts, Report
from vsnapfs.repository.primary import OpenImage
from vsnapfs.repository.sparse import Span, data_spans, pieces, union

FICLONE = 0x40049409
"""ioctl: make a file share all blocks of another; uapi/linux/fs.h."""


def build(parts: Parts, name: str, volume: int, image: OpenImage, report: Report) -> str:
    """Make the base of volume ``volume`` from an open image. Returns: the digest of its content, in hex.

    Raises: BusyError: a file that was written to meanwhile. NoSpaceError, StoreError: nothing is left behind.
    """
    try:
        before = _stamp(image)
        digest = _copy(parts, name, volume, image, report)
        if _stamp(image) != before:
            raise BusyError(
                f"{image.path} was written to while it was read",
                volume=name,
                hint="stop whoever uses it, and try again",
            )
    except OSError as error:
        discard(parts, volume)
        raise from_os_error(error, f"read {image.path}") from error
    except BaseException:
        discard(parts, volume)
        raise
    for final in (base_image(volume), base_index(volume)):
        parts.layout.rename(final + PART, final)
    return digest


def discard(parts: Parts, volume: int) -> None:
    """Remove a base that is not finished."""
    for final in (base_image(volume), base_index(volume)):
        parts.layout.remove(final + PART)


def require(parts: Parts, entry: VolumeEntry) -> None:
    """Raises: IntegrityError: the volume has a base that is not there; without it, it would read as zeros."""
    if entry.base:
        for name in (base_image(entry.id), base_index(entry.id)):
            if not parts.layout.exists(name):
                raise IntegrityError(
                    f"{name} is missing, volume {entry.name} cannot be read",
                    volume=entry.name,
                    hint="put it back from a copy",
                )


def view(parts: Parts, entry: VolumeEntry) -> View:
    """What a volume started from, by itself. Raises: IntegrityError."""
    require(parts, entry)
    return parts.journal.base(entry.id)


def _copy(parts: Parts, name: str, volume: int, image: OpenImage, report: Report) -> str:
    with ExitStack() as stack:
        copy = _part(parts, base_image(volume), stack)
        index = _part(parts, base_index(volume), stack)
        cloned = _clone(image.fd, copy)
        source = copy if cloned else image.fd
        size_bytes = image.size_bytes
        builder = stack.enter_context(
            BaseBuilder(
                parts.store,
                parts.uuid.bytes,
                volume,
                size_bytes,
                source=source,
                image=-1 if cloned else copy,
                index=index,
            )
        )
        nothing: tuple[Span, ...] = ()
        for piece in pieces(union(data_spans(source, size_bytes), nothing, size_bytes), size_bytes):
            builder.take(piece.offset_bytes, piece.length_bytes, piece.has_data)
            done = piece.offset_bytes + piece.length_bytes
            parts.tell(report, Progress(what=f"base of {name}", done=done, total=size_bytes))
        builder.finish()
        return builder.digest().hex()


def _part(parts: Parts, final: str, stack: ExitStack) -> int:
    parts.layout.remove(final + PART)
    fd = parts.layout.open(final + PART, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    stack.callback(os.close, fd)
    return fd


def _clone(source: int, copy: int) -> bool:
    """Share the blocks of the source. False: the filesystem cannot, or it is another one, or a device."""
    try:
        fcntl.ioctl(copy, FICLONE, source)
    except OSError:
        return False
    return True


def _stamp(image: OpenImage) -> tuple[int, int]:
    """Changes when a regular file is written to. A device is held exclusively instead."""
    found = os.fstat(image.fd)
    return (0, 0) if image.is_device else (found.st_size, found.st_mtime_ns)

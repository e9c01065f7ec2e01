"""Base images: what a volume held when it was added, shared with its source where the filesystem can, copied where
not; and which of it some point still needs.

Both files are built under names that end in ``.part`` and get their own names when they are on stable storage, the
index last: where there is an index, there is a base. A base that was moved (compaction.py) is what the volume held at a later
point, the floor of then; a volume that began with zeros has one by then too.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress

from vsnapfs.binding import BaseBuilder, RunKind, View
from vsnapfs.binding.base_move import base_seqno
from vsnapfs.catalog.index import VolumeEntry
from vsnapfs.core.errors import BusyError, IntegrityError, PointGoneError, VsnapfsError, from_os_error
from vsnapfs.core.state import Progress
from vsnapfs.repository.compaction_plan import first_instant_seqno
from vsnapfs.repository.layout import PART, base_image, base_index
from vsnapfs.repository.named import named_from
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
    names = [base_image(entry.id), base_index(entry.id)] if entry.base else []
    if not entry.base and moved_to(parts, entry):
        names = [base_index(entry.id)]  # the core knows whether it holds anything, and so needs an image
    for name in names:
        if not parts.layout.exists(name):
            raise IntegrityError(
                f"{name} is missing, volume {entry.name} cannot be read",
                volume=entry.name,
                hint="put it back from a copy",
            )


def require_all(parts: Parts) -> None:
    """Raises: IntegrityError: a base that a point may need is not there. What is over nothing would be taken for what is over zeros."""
    for entry in needed(parts):
        try:
            require(parts, entry)
        except IntegrityError:
            look_again(parts)
            if _oldest_point(parts, entry) is not None:
                raise
            # another prune has given up the last point that had the volume, and so taken its base away


def moved_to(parts: Parts, entry: VolumeEntry) -> int:
    """The record up to which the volume's base has everything; 0: there is none, or it is as it was taken in."""
    return base_seqno(parts.journal, entry.id)


def needed(parts: Parts) -> list[VolumeEntry]:
    """Volumes with a base that a point may need, or with a part of one, by id."""
    exists = parts.layout.exists
    with parts.names:
        entries = [e for e in parts.index.volumes() if _oldest_point(parts, e) is not None]
    return [e for e in entries if e.base or exists(base_index(e.id)) or exists(base_image(e.id))]


def _oldest_point(parts: Parts, entry: VolumeEntry) -> int | None:
    """The oldest point that has the volume and can be opened: before the first instant those are bookmarks' and branches' only. None: there
    is none.

    Where damage has cost the journal its floor, a moved base still tells of it.
    """
    facts, moved_seqno = parts.journal.facts(), moved_to(parts, entry)
    first_seqno = max(first_instant_seqno(parts.journal.segments(), facts), moved_seqno)
    named = [each.seqno for each in named_from(parts, max(facts.first_seqno, moved_seqno))]
    points = [seqno for seqno in named if seqno < first_seqno] + [max(first_seqno, entry.added_seqno)]
    return next((seqno for seqno in points if entry.stands_at(seqno) and seqno <= facts.committed_seqno), None)


def oldest_view(parts: Parts, entry: VolumeEntry) -> View | None:
    """The volume at the oldest point that has it: whatever a point needs of its base, this one does. As long as it is open the base stays
    as it is. entry: of those that were ``needed``. None: a prune has given up the last point that had it, and its base went.

    Raises: IntegrityError.
    """
    while (seqno := _oldest_point(parts, entry)) is not None:
        try:
            require(parts, entry)
            return parts.journal.view(entry.id, seqno)
        except (IntegrityError, PointGoneError):
            look_again(parts)
            if _oldest_point(parts, entry) == seqno:
                raise
            # a prune has given up that point since
    return None


def look_again(parts: Parts) -> None:
    """A reader knows what was there when it looked last. What it cannot find out, it does not know."""
    if parts.owner or parts.journal.broken() is not None:
        return
    with suppress(VsnapfsError), parts.change:
        parts.journal.refresh()
        parts.catch_up()


def spans_of(opened: View, offset_bytes: int = 0) -> Iterator[Span]:
    """Which bytes a view reads from the base, from an offset on."""
    for run in opened.places(offset_bytes):
        if run.kind == RunKind.DATA and run.segment == 0:
            yield Span(run.offset_bytes, run.offset_bytes + run.length_bytes)


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

"""Taking images in as new writes: import, and resync of a primary that was written to behind the splitter's back.

Both compare an image with the newest committed state of a volume, 4 KiB by 4 KiB, and journal only what differs.
Nobody may write to an image, or to its volume, while it is imported: what is read from it is journalled as newer than
any such write. A volume that is resynced stays in use. A crash in the middle leaves a part of the difference in the
history, without a bookmark; doing it again completes it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from vsnapfs.binding import Journal, RunKind, View
from vsnapfs.catalog.bodies import BookmarkAdded
from vsnapfs.catalog.index import VolumeEntry
from vsnapfs.core.errors import BusyError, DegradedError, UsageError, from_os_error
from vsnapfs.core.model import Bookmark
from vsnapfs.core.names import check_name
from vsnapfs.core.state import Progress
from vsnapfs.repository import bookmarks, volumes
from vsnapfs.repository.parts import Parts, Report
from vsnapfs.repository.primary import OpenImage, find_image, open_image
from vsnapfs.repository.reading import view_of
from vsnapfs.repository.sparse import BLOCK_BYTES, PIECE_BYTES, Span, data_spans, union

COMMIT_BYTES = 64 << 20
"""Journalled between two commits, so that a long import does not pend as a whole."""
ZEROS = bytes(BLOCK_BYTES)


def import_images(parts: Parts, images: dict[str, Path], body: BookmarkAdded, report: Report) -> Bookmark:
    """Bring volumes to the content of images, and name the result.

    A volume that is not there is made, without a primary; one of another size is resized. All images are opened and
    judged before the first write. Raises: NameTakenError, UsageError, NotFoundError: nothing was written.
    """
    parts.require_owner()
    if not images:
        raise UsageError("there is no image to import", hint="give VOLUME=IMAGE")
    with parts.working(f"the import of {body.name}"), ExitStack() as stack:
        bookmarks.refuse_taken(parts, body.name)
        opened = {name: _judged(parts, name, path, stack) for name, path in images.items()}
        total = sum(image.size_bytes for image in opened.values())
        done = 0
        for name, image in opened.items():
            entry = _fitting(parts, name, image.size_bytes)
            _take_in(
                parts,
                entry,
                image.fd,
                _Tally(parts, f"import of {name}", done, total, report),
            )
            done += image.size_bytes
        return bookmarks.add(parts, body, 0)


def resync(parts: Parts, name: str, report: Report) -> int:
    """Journal what a volume's primary holds and the journal does not know. Returns the bytes journalled.

    Raises: UsageError: it has no primary. DegradedError: the primary is not in use.
    """
    parts.require_owner()
    with parts.working(f"the resync of {name}"):
        entry = parts.entry(name)
        fd = parts.primaries.get(entry.id)
        if fd is None:
            raise _no_primary(parts, entry)
        return _compare(parts, entry, fd, _Tally(parts, f"resync of {name}", 0, entry.size_bytes, report))


def _compare(parts: Parts, entry: VolumeEntry, fd: int, tally: _Tally) -> int:
    """By the core, piece by piece, so that writes to the volume need not stop. Returns the bytes journalled, durably."""
    journal = parts.journal
    journal.commit()
    written, pending = 0, 0
    with view_of(parts, entry, journal.facts().committed_seqno) as head:
        spans = list(_held(fd, head))
    for span in spans:
        for at in range(span.start_bytes, span.end_bytes, PIECE_BYTES):
            found = journal.resync(entry.id, at, min(PIECE_BYTES, span.end_bytes - at))
            written, pending = written + found, pending + found
            if pending >= COMMIT_BYTES:
                journal.commit()
                pending = 0
            tally.tell(min(at + PIECE_BYTES, span.end_bytes))
    tally.tell(entry.size_bytes)
    journal.commit()
    return written


class _Tally:
    """Progress of several images as one."""

    def __init__(self, parts: Parts, what: str, done: int, total: int, report: Report) -> None:
        self._parts, self._report = parts, report
        self._what, self._before, self._total = what, done, total

    def tell(self, done: int) -> None:
        progress = Progress(what=self._what, done=self._before + done, total=self._total)
        self._parts.tell(self._report, progress)


def _take_in(parts: Parts, entry: VolumeEntry, fd: int, tally: _Tally) -> int:
    """Journal where the first ``size_bytes`` of an open image differ from the volume.

    Returns the bytes journalled; all are durable.
    """
    parts.journal.commit()
    written, pending = 0, 0
    with view_of(parts, entry, parts.journal.facts().committed_seqno) as head:
        try:
            for offset_bytes, image in _read(fd, head):
                for start, end, zero in _differences(image, head.read(offset_bytes, len(image))):
                    _append(parts.journal, entry.id, offset_bytes + start, image[start:end], zero)
                    written += end - start
                    pending += end - start
                if pending >= COMMIT_BYTES:
                    parts.journal.commit()
                    pending = 0
                tally.tell(offset_bytes + len(image))
        except OSError as error:
            raise from_os_error(error, f"read the image of {entry.name}") from error
        tally.tell(head.size_bytes)
    parts.journal.commit()
    return written


def _judged(parts: Parts, name: str, path: Path, stack: ExitStack) -> OpenImage:
    """Open an image, and refuse what could not be taken in."""
    check_name(name, "volume")
    image = open_image(find_image(path, parts.layout))
    stack.callback(os.close, image.fd)
    with parts.names:
        entry = parts.index.volume(name)
    if entry is not None and image.size_bytes != entry.size_bytes:
        volumes.check_resize(parts, entry, image.size_bytes)
    if entry is not None and entry.primary_kind != "none" and entry.id not in parts.primaries:
        raise _no_primary(parts, entry)
    return image


def _fitting(parts: Parts, name: str, size_bytes: int) -> VolumeEntry:
    with parts.names:
        entry = parts.index.volume(name)
    if entry is None:
        volumes.add_without_primary(parts, name, size_bytes)
    elif entry.size_bytes != size_bytes:
        volumes.resize(parts, name, size_bytes)
    return parts.entry(name)


def _no_primary(parts: Parts, entry: VolumeEntry) -> UsageError | DegradedError:
    if entry.primary_kind == "none":
        return UsageError(f"volume {entry.name} has no primary", volume=entry.name, hint="use `vsnapfs import`")
    return DegradedError(parts.problems.get(entry.id, f"the primary of {entry.name} is not in use"), volume=entry.name)


def _held(fd: int, head: View) -> Iterator[Span]:
    """Where an image or the volume has data."""
    held = (
        Span(run.offset_bytes, run.offset_bytes + run.length_bytes) for run in head.runs() if run.kind == RunKind.DATA
    )
    return union(data_spans(fd, head.size_bytes), held, head.size_bytes)


def _read(fd: int, head: View) -> Iterator[tuple[int, bytes]]:
    """The image in pieces, without those where neither it nor the volume has data."""
    for span in _held(fd, head):
        for at in range(span.start_bytes, span.end_bytes, PIECE_BYTES):
            length = min(PIECE_BYTES, span.end_bytes - at)
            piece = os.pread(fd, length, at)
            if len(piece) != length:
                raise BusyError(
                    "the image became shorter while it was read", hint="stop whoever uses it, and try again"
                )
            yield at, piece


def _differences(new: bytes, old: bytes) -> Iterator[tuple[int, int, bool]]:
    """Runs of whole blocks (start, end, all zeros) of ``new`` that are not those of ``old``; both are of one length."""
    if new == old:
        return
    start, end, zero = 0, 0, False
    for at in range(0, len(new), BLOCK_BYTES):
        block = new[at : at + BLOCK_BYTES]
        if block == old[at : at + BLOCK_BYTES]:
            continue
        is_zero = block == ZEROS[: len(block)]
        if at == end and is_zero == zero and end > start:
            end = at + len(block)
            continue
        if end > start:
            yield start, end, zero
        start, end, zero = at, at + len(block), is_zero
    yield start, end, zero


def _append(journal: Journal, volume: int, offset_bytes: int, content: bytes, zero: bool) -> None:
    if zero:
        journal.zero(volume, offset_bytes, len(content))
    else:
        journal.write(volume, offset_bytes, content)

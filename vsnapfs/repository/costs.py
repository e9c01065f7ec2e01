"""What a damage costs: exactly the volumes of bookmarks and branches that cannot be read whole because of it.

What a damaged block costs is found without reading: a point needs it as long as no later record has written over all
of its bytes. Once it is covered it stays covered, so of the bookmarks in order the ones that need it are a first
part, found by bisection. A branch counts as its point does, whatever was written to it since.

Where batches of a segment are damaged and its footer is too, what is lost depends on which parts of it say the same.
That happens to few and is not foretold: each point that could need the segment is tried, by reading what lies in it.
"""

from __future__ import annotations

import errno
from bisect import bisect_left

from vsnapfs.binding import Fault, Run, RunKind, SegmentFacts, View
from vsnapfs.catalog.index import VolumeEntry
from vsnapfs.catalog.store import Seen
from vsnapfs.core.branch import SOURCE_PREFIX
from vsnapfs.core.errors import IntegrityError, NotFoundError, PointGoneError, VsnapfsError
from vsnapfs.repository import branch_files
from vsnapfs.repository.layout import Layout
from vsnapfs.repository.named import Named, named_from
from vsnapfs.repository.parts import Parts
from vsnapfs.repository.reading import view_of
from vsnapfs.repository.sparse import BLOCK_BYTES, PIECE_BYTES, Span


def of_block(parts: Parts, fault: Fault) -> list[str]:
    """Of a payload block of a segment that does not match."""
    with parts.names:
        entry = parts.index.volume_by_id(fault.volume)
    if fault.code != -errno.EBADMSG or entry is None:
        return []
    try:
        place = _place_of(parts, entry, fault)
    except IntegrityError:
        return []  # its records are lost: a damage of its own, which costs all that needs them
    return [] if place is None else of_place(parts, entry, fault.seqno, place)


def _place_of(parts: Parts, entry: VolumeEntry, fault: Fault) -> Span | None:
    """Where the block lies in the volume. Where only bookmarks are kept, the next one shows the record, or none does."""
    later = named_from(parts, fault.seqno)
    for until in (fault.seqno, *(bookmark.seqno for bookmark in later[:1])):
        try:
            with parts.journal.changes(entry.id, fault.seqno - 1, until) as written:
                return _place(written, fault.segment, fault.offset_bytes // BLOCK_BYTES)
        except NotFoundError:
            continue
    return None


def of_place(parts: Parts, entry: VolumeEntry, seqno: int, place: Span) -> list[str]:
    """Of bytes that record ``seqno`` put into a volume; 0: of those that no record did."""
    candidates = named_from(parts, max(seqno, entry.added_seqno))
    try:
        free = bisect_left(candidates, True, key=lambda bookmark: not _needs(parts, bookmark, entry, seqno, place))
        needing = candidates[:free]
    except IntegrityError:  # some points in between cannot be opened at all; of these another damage tells
        needing = [bookmark for bookmark in candidates if _may_need(parts, bookmark, entry, seqno, place)]
    return [f"{bookmark.name}/{entry.name}" for bookmark in needing]


def of_base(parts: Parts, entry: VolumeEntry, place: Span) -> list[str]:
    """Of bytes of a volume's base: the points at which no record has written over all of them."""
    return of_place(parts, entry, 0, place)


def of_volume(parts: Parts, entry: VolumeEntry) -> list[str]:
    """Of a base that cannot be opened: without it no point of the volume can."""
    candidates = named_from(parts, entry.added_seqno)
    return [f"{bookmark.name}/{entry.name}" for bookmark in candidates if entry.stands_at(bookmark.seqno)]


def of_segment(parts: Parts, segment: SegmentFacts) -> list[str]:
    """Of a segment that is damaged in more than one place of its structure."""
    with parts.names:
        volumes = parts.index.volumes()
    return [
        f"{bookmark.name}/{entry.name}"
        for bookmark in named_from(parts, segment.first_seqno)
        for entry in volumes
        if entry.stands_at(bookmark.seqno) and not _opens(parts, entry, bookmark.seqno, segment.first_seqno)
    ]


def points_lost(parts: Parts, segment: SegmentFacts) -> tuple[int, int] | None:
    """First and last of the segment's points, if none of them can be opened any more."""
    try:
        parts.journal.volume_at(1, segment.last_seqno)
    except IntegrityError:
        return segment.first_seqno, segment.last_seqno
    except PointGoneError:
        pass  # only bookmarks are kept there: each of them is tried
    return None


def of_end(layout: Layout, seen: Seen, last_seqno: int) -> list[str]:
    """Of everything after ``last_seqno``, as far as a catalog had seen it: points behind, and names given behind; of branches, as far as
    their files tell."""
    bookmarks = [
        f"{bookmark.name}/{entry.name}"
        for bookmark in seen.bookmarks
        if max(bookmark.seqno, bookmark.created_seqno) > last_seqno
        for entry in seen.volumes
        if entry.stands_at(bookmark.seqno)
    ]
    files = branch_files.read_all(layout).files
    branches = [file for _, file in sorted(files.items()) if file.seqno > last_seqno]
    return [*bookmarks, *(f"{SOURCE_PREFIX}{file.name}/{volume.name}" for file in branches for volume in file.volumes)]


def _needs(parts: Parts, bookmark: Named, entry: VolumeEntry, seqno: int, place: Span) -> bool:
    """Raises: IntegrityError: that cannot be told."""
    if bookmark.seqno == seqno:
        return True
    if not entry.stands_at(bookmark.seqno):
        return False
    with parts.journal.changes(entry.id, seqno, bookmark.seqno) as later:
        for run in later.runs(place.start_bytes, keep_zeros=True):
            if run.offset_bytes >= place.end_bytes:
                break
            if run.kind == RunKind.HOLE:
                return True
    return False


def _may_need(parts: Parts, bookmark: Named, entry: VolumeEntry, seqno: int, place: Span) -> bool:
    try:
        return _needs(parts, bookmark, entry, seqno, place)
    except IntegrityError:
        return entry.stands_at(bookmark.seqno)


def _opens(parts: Parts, entry: VolumeEntry, seqno: int, segment: int) -> bool:
    """Can the volume be opened at a point, and what of it lies in the segment be read?"""
    try:
        with view_of(parts, entry, seqno) as opened:
            for run in opened.places():
                if run.kind == RunKind.DATA and run.segment == segment:
                    for at in range(run.offset_bytes, end_of(run), PIECE_BYTES):
                        opened.read(at, min(PIECE_BYTES, end_of(run) - at))
    except VsnapfsError as error:
        return error.segment not in (None, segment)
    return True


def _place(written: View, segment: int, block: int) -> Span | None:
    """Which bytes of the volume one record put into a payload block."""
    for run in written.places():
        if run.kind != RunKind.DATA or run.segment != segment:
            continue
        start = run.offset_bytes // BLOCK_BYTES * BLOCK_BYTES + (block - run.block) * BLOCK_BYTES
        if run.block <= block and start < end_of(run):
            return Span(max(start, run.offset_bytes), min(start + BLOCK_BYTES, end_of(run)))
    return None


def end_of(run: Run) -> int:
    return run.offset_bytes + run.length_bytes

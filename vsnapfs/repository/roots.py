"""What has to stay readable: the roots, and the time by which ages are told.

A point before the protection window is a root if it has a bookmark, a branch stands on it, somebody has it open, or it is one that a
bookmark over several repositories may get; the window's first point is one too.
"""

from __future__ import annotations

from collections.abc import Iterable

from vsnapfs.core.errors import PointGoneError
from vsnapfs.core.model import Bookmark
from vsnapfs.policy.keep import window_begin_ns
from vsnapfs.repository import gaps, leases
from vsnapfs.repository.compaction_plan import Kept, first_instant_seqno
from vsnapfs.repository.parts import Parts


def now_ns(parts: Parts) -> int:
    """The journal's time, which ages are told by: that of its newest record, and no later than the clock is believed."""
    return min(parts.journal.time_of(parts.journal.facts().committed_seqno), parts.clock.believed_ns())


def window_seqno(parts: Parts) -> int:
    """The first point of the protection window: what was there when it began. Never in a gap, never where only named points
    are left."""
    first_seqno = first_instant_seqno(parts.journal.segments(), parts.journal.facts())
    begin_ns = window_begin_ns(now_ns(parts), parts.settings.retention)
    try:
        seqno = max(first_seqno, parts.journal.seqno_at(begin_ns))
    except PointGoneError:
        return first_seqno
    for gap in gaps.entries(parts, parts.journal.facts()):
        if gap.holds_seqno(seqno):
            seqno = gap.since_seqno if gap.since_seqno >= first_seqno else gap.end_seqno or first_seqno
    return seqno


def kept(parts: Parts, bookmarks: Iterable[Bookmark], window_seqno: int, *others: int) -> Kept:
    """What has to stay readable for these bookmarks, for those over several repositories that are not decided yet, for all
    branches, for all who have points open, and for ``others``."""
    standing = list(bookmarks)
    points = {bookmark.seqno for bookmark in standing} | set(others)
    needed = [*leases.leased(parts.layout), *parts.reservations.positions(), *parts.branches.seqnos()]
    points |= {seqno for seqno in needed if _can_be_opened(parts, seqno)}
    roots = sorted({seqno for seqno in points if seqno < window_seqno} | {window_seqno})
    return Kept(tuple(roots), {bookmark.name: bookmark.created_seqno for bookmark in standing})


def _can_be_opened(parts: Parts, seqno: int) -> bool:
    """False of a point that is gone, and that somebody has open still."""
    try:
        parts.journal.point_check(seqno)
    except PointGoneError:
        return False
    return True

"""What a point means in this journal.

A bookmark's name wins. ``latest`` is the bookmark of the newest point, as ``snaps/latest`` shows it; the newest
committed record is ``-0s``. A time after the last record is the last record; a time before the first, or a seqno not
written yet, is outside the window.
"""

from __future__ import annotations

from vsnapfs.core.errors import NotFoundError, PointGoneError
from vsnapfs.core.model import Bookmark, Point
from vsnapfs.core.names import near
from vsnapfs.core.points import Ago, Instant, Latest, Named, Seqno, parse_point
from vsnapfs.repository import gaps
from vsnapfs.repository.compaction_plan import first_instant_seqno
from vsnapfs.repository.parts import Parts


def resolve(parts: Parts, text: str, now_ns: int) -> Point:
    """The point that ``text`` means at ``now_ns``.

    Raises: UsageError: no point at all. NotFoundError: no such bookmark. PointGoneError: outside the window. GapError: in a
    gap.
    """
    with parts.names:
        named = parts.index.bookmark(text)
    if named is not None:
        return of_bookmark(named)
    match parse_point(text):
        case Latest():
            return of_bookmark(_latest(parts))
        case Named(name):
            raise unknown_bookmark(parts, name)
        case Seqno(seqno):
            gaps.refuse_seqno(parts, text, seqno)
            return parts.point(_within(parts, text, seqno))
        case Instant(time_ns):
            return parts.point(_at(parts, text, time_ns))
        case Ago(span_ns):
            return parts.point(_at(parts, text, max(0, now_ns - span_ns)))


def not_before(parts: Parts, seqno: int) -> Point:
    """The oldest point at or after a record that can be opened. Raises: PointGoneError: there is none. GapError."""
    found = parts.journal.next_point(seqno)
    if found is None:
        raise PointGoneError(f"there is no point from @{seqno} on", seqno=seqno)
    gaps.refuse_seqno(parts, f"@{found}", found)
    return parts.point(found)


def window(parts: Parts) -> tuple[Point, Point] | None:
    """The oldest and the newest point that can be read; None as long as nothing was written."""
    while True:
        facts = parts.journal.facts()
        if facts.committed_seqno < facts.first_seqno:
            return None
        try:
            return parts.point(facts.first_seqno), parts.point(facts.committed_seqno)
        except PointGoneError:
            if parts.journal.facts().first_seqno == facts.first_seqno:
                raise
            # a prune has given it up since: another is the oldest by now


def any_instant_from(parts: Parts) -> Point:
    """The first point from which on every one can be read. There is one where there is a ``window``."""
    while True:
        seqno = _any_instant_seqno(parts)
        try:
            return parts.point(seqno)
        except PointGoneError:
            if _any_instant_seqno(parts) == seqno:
                raise


def _any_instant_seqno(parts: Parts) -> int:
    return first_instant_seqno(parts.journal.segments(), parts.journal.facts())


def of_bookmark(bookmark: Bookmark) -> Point:
    return Point(seqno=bookmark.seqno, time=bookmark.time, time_ns=bookmark.time_ns, bookmark=bookmark.name)


def unknown_bookmark(parts: Parts, name: str) -> NotFoundError:
    with parts.names:
        names = parts.index.bookmark_names()
    return NotFoundError(f"there is no bookmark {name!r}", near=near(name, names))


def _latest(parts: Parts) -> Bookmark:
    with parts.names:
        latest = parts.index.latest()
    if latest is None:
        raise NotFoundError(
            "there is no bookmark yet", hint="`vsnapfs bookmark add NAME` makes one; -0s is the newest record"
        )
    return latest


def _at(parts: Parts, text: str, time_ns: int) -> int:
    gaps.refuse_time(parts, text, time_ns)
    return _within(parts, text, parts.journal.seqno_at(time_ns))


def _within(parts: Parts, text: str, seqno: int) -> int:
    reach = window(parts)
    if reach is None:
        raise PointGoneError(f"{text} cannot be reached: nothing was written yet")
    first, last = reach
    if first.seqno > 1 and seqno < first.seqno:
        raise PointGoneError(f"{text} is gone: the oldest point is {first.time} (@{first.seqno})", seqno=seqno)
    if not first.seqno <= seqno <= last.seqno:
        span = f"from {first.time} (@{first.seqno}) to {last.time} (@{last.seqno})"
        raise PointGoneError(f"{text} is outside the window, which is {span}", seqno=seqno)
    parts.journal.point_check(seqno)
    return seqno

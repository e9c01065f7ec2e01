"""Bookmarks: make, remove, hold, release.

Source: native/FORMAT.md section 7.
"""

from __future__ import annotations

import time

import msgspec

from vsnapfs.binding import RecordKind
from vsnapfs.catalog.bodies import BookmarkAdded, BookmarkNamed
from vsnapfs.core.branch import source_branch
from vsnapfs.core.errors import BusyError, NameTakenError, NotFoundError, UsageError
from vsnapfs.core.model import Bookmark, Consistency
from vsnapfs.core.names import check_name
from vsnapfs.core.times import iso
from vsnapfs.policy.keep import Candidate
from vsnapfs.repository import events, gaps
from vsnapfs.repository.parts import Parts
from vsnapfs.repository.resolve import unknown_bookmark
from vsnapfs.repository.roots import now_ns

APPLICATION_LENGTH_MAX = 255
NOTE_LENGTH_MAX = 4096
UNTIL_NS_MAX = 2**63 - 1


def find(parts: Parts, name: str) -> Bookmark:
    """Raises: NotFoundError with names that look like it."""
    with parts.names:
        found = parts.index.bookmark(name)
    if found is None:
        raise unknown_bookmark(parts, name)
    return found


def describe(name: str, consistency: Consistency, application: str, note: str, schedule: str = "") -> BookmarkAdded:
    """What the journal will keep of a bookmark. Raises: UsageError: a name or text that cannot be."""
    check_name(name, "bookmark")
    if source_branch(name) is not None:
        raise UsageError(f"{name!r} cannot name a bookmark", hint="it reads as a branch")
    check_text("application", application, APPLICATION_LENGTH_MAX)
    check_text("note", note, NOTE_LENGTH_MAX)
    if schedule:
        check_name(schedule, "schedule")
    return BookmarkAdded(name, consistency, application, note, schedule=schedule or msgspec.UNSET)


def body_of(bookmark: Bookmark, name: str) -> BookmarkAdded:
    """What a journal keeps of a bookmark that another repository has made of the same moment."""
    return BookmarkAdded(
        name,
        bookmark.consistency,
        bookmark.application,
        bookmark.note,
        msgspec.UNSET if bookmark.federation is None else bookmark.federation,
        bookmark.profile or msgspec.UNSET,
        bookmark.members or msgspec.UNSET,
    )


def refuse_taken(parts: Parts, name: str) -> None:
    """Raises: NameTakenError."""
    with parts.names:
        taken = parts.index.bookmark(name)
    if taken is not None:
        raise NameTakenError(
            f"there is a bookmark {name!r} already, at {taken.time}", seqno=taken.seqno, hint="choose another name"
        )
    if parts.reservations.has(name):
        raise NameTakenError(
            f"a bookmark {name!r} over several repositories is not decided yet",
            hint="choose another name, or see `vsnapfs bookmark list`",
        )


def add(parts: Parts, body: BookmarkAdded, seqno: int) -> Bookmark:
    """Name the record ``seqno``, or with 0 the moment itself.

    Durable, and so is every write before it, when this returns. Raises: GapError: now is in a gap.
    """
    parts.require_owner()
    with parts.change:
        refuse_taken(parts, body.name)
        if seqno == 0:
            gaps.refuse_now(parts, f"bookmark {body.name!r}")
        else:
            refuse_going(parts, seqno)
        parts.journal.commit()
        parts.record(RecordKind.BOOKMARK_ADD, body, a=seqno)
        tell_made(parts, body.name)
        return find(parts, body.name)


def tell_made(parts: Parts, name: str) -> None:
    """The event that there is a new bookmark of that name."""
    made = find(parts, name)
    detail = {
        member: getattr(made, member) for member in ("seqno", "time", "consistency", "application", "note", "schedule")
    }
    events.tell(parts, "bookmark_added", name, **detail)


def remove(parts: Parts, name: str, seqno: int | None = None) -> None:
    """seqno: only if it is of this point. Raises: NotFoundError. BusyError: it is held, and the journal is not at the end of the hold; says
    by whom."""
    parts.require_owner()
    with parts.change:
        bookmark = find(parts, name)
        if seqno not in (None, bookmark.seqno):
            raise NotFoundError(f"bookmark {name!r} is of @{bookmark.seqno}, and not of @{seqno}")
        if candidate(bookmark).is_held(now_ns(parts)):
            why = f" ({bookmark.hold_note})" if bookmark.hold_note else ""
            raise BusyError(
                f"bookmark {name!r} is held{why}", seqno=bookmark.seqno, hint=f"`vsnapfs bookmark release {name}` first"
            )
        parts.record(RecordKind.BOOKMARK_REMOVE, BookmarkNamed(name), a=bookmark.seqno)


def hold(parts: Parts, name: str, note: str, until_ns: int | None) -> Bookmark:
    """Keep a bookmark from being removed, until the journal is at a time or it is released. A second hold changes note and
    time. Raises: UsageError: the time is past."""
    parts.require_owner()
    check_text("note", note, NOTE_LENGTH_MAX)
    if until_ns is not None and not time.time_ns() < until_ns <= UNTIL_NS_MAX:
        raise UsageError(f"a hold cannot end at {iso(until_ns)}", hint="give a time to come, before 2262")
    with parts.change:
        bookmark = find(parts, name)
        if (bookmark.held, bookmark.hold_note, bookmark.hold_until_ns) != (True, note, until_ns):
            parts.record(RecordKind.BOOKMARK_HOLD, BookmarkNamed(name, note, until_ns), a=1)
        return find(parts, name)


def release(parts: Parts, name: str) -> Bookmark:
    """Let a bookmark be removed again; nothing happens if it could be."""
    parts.require_owner()
    with parts.change:
        if find(parts, name).held:
            parts.record(RecordKind.BOOKMARK_HOLD, BookmarkNamed(name), a=0)
        return find(parts, name)


def refuse_going(parts: Parts, seqno: int) -> None:
    """Before a point is named, with the lock ``change``.

    Raises: PointGoneError: the point has gone since it was looked up. BusyError: it is going.
    """
    parts.journal.point_check(seqno)
    rewriting = parts.rewriting
    if rewriting and seqno < rewriting.until_seqno and seqno not in rewriting.points:
        raise BusyError(
            f"@{seqno} is going: the journal is being compacted there", seqno=seqno, hint="name a point that has a name"
        )


def candidate(bookmark: Bookmark) -> Candidate:
    """What counts of a bookmark for those who decide whether it stays."""
    return Candidate(
        name=bookmark.name,
        seqno=bookmark.seqno,
        time_ns=bookmark.time_ns,
        created_seqno=bookmark.created_seqno,
        created_ns=bookmark.created_ns,
        held=bookmark.held,
        hold_until_ns=bookmark.hold_until_ns,
    )


def check_text(what: str, text: str, length_max: int) -> None:
    """Raises: UsageError: too long, or not to be printed."""
    if len(text) > length_max:
        raise UsageError(f"the {what} has {len(text)} characters", hint=f"at most {length_max} are kept")
    if not text.isprintable():
        raise UsageError(
            f"the {what} {text!r} has characters that cannot be printed",
            hint="leave out line ends and control characters",
        )

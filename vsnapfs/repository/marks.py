"""Bookmarks of moments at which somebody was kept still.

Whether all were still is known only afterwards, when they have been let go. So the moment itself gets a record that makes no bookmark
(``pending``), and the bookmark, with what is known by then, is a later record that names it. Whoever dies in between
leaves no bookmark, and so none that claims more than it has. The mark is not waited for to be on stable storage, so that nobody
is kept still for a disk: the record that names it is, and with it everything before.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import msgspec

from vsnapfs.binding import RecordKind
from vsnapfs.catalog.bodies import BODY_BYTES_MAX, BookmarkAdded, encode
from vsnapfs.core.errors import BusyError, NotFoundError, StoreError, UsageError
from vsnapfs.core.model import Bookmark, Consistency, MemberOutcome, Quiesce, QuiescePhase
from vsnapfs.core.names import near
from vsnapfs.core.times import iso
from vsnapfs.policy.profiles import PROFILE_BYTES_MAX, Profile
from vsnapfs.repository import bookmarks, gaps
from vsnapfs.repository.parts import Parts

STRENGTH: tuple[Consistency, ...] = ("crash", "filesystem", "application")


class Mark(NamedTuple):
    """The record of a moment, and its body, by which it is known again."""

    seqno: int
    body: bytes


class Marks:
    """Of the owner. Threads: any."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def profile(self, name: str) -> Profile:
        """Raises: NotFoundError with names that look like it."""
        known = self._parts.settings.quiesce
        if name in known:
            return known[name]
        raise NotFoundError(
            f"there is no profile {name!r} in {self._parts.layout.absolute('vsnapfs.toml')}", near=near(name, known)
        )

    def require_possible(self, body: BookmarkAdded) -> None:
        """Before anybody is made still: such a bookmark can be made. Raises: NameTakenError, GapError, UsageError, BusyError."""
        self._parts.require_owner()
        with self._parts.change:
            bookmarks.refuse_taken(self._parts, body.name)
            gaps.refuse_now(self._parts, f"bookmark {body.name!r}")
        if len(encode(body)) > BODY_BYTES_MAX - PROFILE_BYTES_MAX:
            raise UsageError(f"the note of {body.name} is too long beside the members of a profile")

    @contextmanager
    def under_way(self, profile: str, bookmark: str, deadline_s: float) -> Iterator[None]:
        """Be the one quiesce of this repository. Raises: BusyError: another is under way."""
        with self._parts.change:
            other = self._parts.quiesce
            if other is not None:
                raise BusyError(
                    f"a quiesce with profile {other.profile!r} is under way, for bookmark {other.bookmark!r}",
                    hint="try again when it has ended",
                )
            self._parts.quiesce = Quiesce(
                profile=profile, bookmark=bookmark, phase="preparing", since=iso(time.time_ns()), deadline_s=deadline_s
            )
        try:
            yield
        finally:
            self._parts.quiesce = None

    def say_phase(self, phase: QuiescePhase) -> None:
        """Of the one that is under way."""
        if self._parts.quiesce is not None:
            self._parts.quiesce = msgspec.structs.replace(self._parts.quiesce, phase=phase)

    def mark(self, name: str) -> Mark:
        """This moment. Returns at once; nothing is durable. Raises: GapError, StoreError, NoSpaceError."""
        gaps.refuse_now(self._parts, f"bookmark {name!r}")
        body = encode(BookmarkAdded(name, "crash", pending=True))
        seqno, _ = self._parts.journal.event(RecordKind.BOOKMARK_ADD, body=body)
        return Mark(seqno, body)

    def name(self, mark: Mark, body: BookmarkAdded) -> Bookmark:
        """Make a bookmark of that moment. Durable, and so is everything before it, when this returns.

        Raises: NameTakenError: by now. GapError, StoreError: the journal has lost the moment.
        """
        parts = self._parts
        with parts.change:
            bookmarks.refuse_taken(parts, body.name)
            parts.journal.commit()
            gaps.refuse_seqno(parts, f"bookmark {body.name!r}", mark.seqno)
            found = next(parts.journal.events(mark.seqno - 1), None)
            if found is None or (found.seqno, found.body) != mark:
                raise StoreError(f"the journal has lost the moment that was to be named {body.name!r}")
            parts.record(RecordKind.BOOKMARK_ADD, body, a=mark.seqno)
            bookmarks.tell_made(parts, body.name)
            return bookmarks.find(parts, body.name)


def weakest(members: Sequence[MemberOutcome]) -> Consistency:
    """What a bookmark has for which all of them were still."""
    return min((member.consistency for member in members), key=STRENGTH.index)

"""Giving space back: what no point needs any more that can still be opened leaves bases and journal.

A run has these steps, each of which leaves the repository as good as it was if it is the last one:

1. the floor: the oldest root (compaction_plan) is the oldest point that can be opened from now on, by anybody
2. bases move to it, as far as nobody reads below it: what records up to it have put into a volume goes into its base
3. groups of segments that are worth it (policy.compaction) are rewritten, the oldest first, without what is not needed
4. files that were replaced are deleted when nobody reads them any more, now or in a later run

Concurrency: one run at a time (``Parts.beside``), in any thread. Everything else goes on: a step takes the lock ``change`` for a
moment at its beginning, and as long as a group is rewritten nobody can name a point before the window that had no name before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from vsnapfs.binding.base_move import BaseMoveFacts
from vsnapfs.binding.compact import CompactFacts, Wish
from vsnapfs.core.errors import BusyError, IntegrityError, NoSpaceError, VsnapfsError
from vsnapfs.core.state import Progress
from vsnapfs.policy.compaction import Group
from vsnapfs.repository import identity
from vsnapfs.repository.compactable import Compactable
from vsnapfs.repository.compaction_plan import Kept, Plan, estimate, freed, room_bytes, span_of, with_moves
from vsnapfs.repository.forgotten import Forgotten
from vsnapfs.repository.parts import Parts, Report, Rewriting

TRIES = 3


class Outcome(NamedTuple):
    """What a run did."""

    freed_bytes: int
    problems: tuple[str, ...]
    """Why it did less than it should have."""
    waiting_files: int
    """Replaced, and not deleted yet, since somebody reads them."""


def run(parts: Parts, journal: Compactable, kept_now: Callable[[], Kept], report: Report) -> Outcome:
    """Owner, with ``Parts.beside``: do it. kept_now: what has to stay, at any moment; asked with the lock ``change``.

    Raises: BusyError: the repository is being closed. What setting the floor raises.
    """
    plan = _begin(parts, journal, kept_now)
    work = _Work(parts, journal, kept_now, plan, report)
    if plan.groups:
        work.all()
    return Outcome(work.freed_bytes, tuple(work.problems), journal.superseded())


def make_room(parts: Parts, journal: Compactable, kept: Kept, report: Report) -> Outcome:
    """Rewrite what can be without a new record, since the journal takes none: neither floor nor bases move."""
    plan = with_moves(journal, kept, {})
    work = _Work(parts, journal, lambda: kept, plan, report)
    if plan.groups:
        identity.add_feature(parts.layout, identity.COMPACTION)
        work.all()
    return Outcome(work.freed_bytes, tuple(work.problems), journal.superseded())


def _begin(parts: Parts, journal: Compactable, kept_now: Callable[[], Kept]) -> Plan:
    """The plan, with its floor durable."""
    for _ in range(TRIES):
        with parts.change:
            kept = kept_now()
        plan = estimate(journal, parts.volume_ids(), kept, parts.layout.free_bytes())
        if not plan.groups:
            return plan
        with parts.change:
            if kept_now().floor == kept.floor:
                identity.add_feature(parts.layout, identity.COMPACTION)
                journal.set_floor(kept.floor)
                parts.catch_up()
                return plan
    raise BusyError("the oldest points are being named or opened faster than they can be looked at", hint="do it again")


class _Work:
    """One run, once its floor is set."""

    def __init__(
        self, parts: Parts, journal: Compactable, kept_now: Callable[[], Kept], plan: Plan, report: Report
    ) -> None:
        self.freed_bytes = 0
        self.problems: list[str] = []
        self._parts = parts
        self._journal = journal
        self._kept_now = kept_now
        self._plan = plan
        self._report = report
        self._done_bytes = 0
        self._total_bytes = plan.work_bytes
        self._forgotten = Forgotten(journal.events(), plan.kept.stays)

    def all(self) -> None:
        moved = [self._move(volume) for volume in self._plan.moves]
        groups = self._plan.groups
        if not all(moved):  # the rest has to be kept in the journal
            groups = with_moves(self._journal, self._plan.kept, {}).groups
        left, before = groups, 0
        while left and len(left) != before:  # what was given back meanwhile may be room enough
            before = len(left)
            left = {group: facts for group, facts in left.items() if not self._rewrite(group, facts)}
        if left:
            self.problems.append(f"there is no room to rewrite {len(left)} parts of the journal")

    def _move(self, volume: int) -> bool:
        """False: its base stays where it is for now."""
        self._tell("bases")
        try:
            facts = self._journal.move_base(volume, self._plan.kept.floor)
        except BusyError:
            return False  # somebody reads below the floor: that is no problem, the next run does it
        except VsnapfsError as error:
            self._failed(f"the base of volume {volume} cannot be moved: {error}")
            return False
        self._did(facts, self._plan.moves[volume].copied_bytes)
        return True

    def _rewrite(self, group: Group, planned: CompactFacts) -> bool:
        """False: there was no room for it."""
        self._tell("journal")
        if self._parts.layout.free_bytes() < room_bytes(planned.bytes_after):
            return False
        journal = self._journal
        with self._parts.change:
            points = self._points_now()
            self._parts.rewriting = Rewriting(points[-1], frozenset(points))
        first_seqno, last_seqno = span_of(journal.segments(), group)
        dropped = self._forgotten.within(first_seqno, last_seqno)
        try:
            facts = journal.compact(Wish(*group, points, dropped))
            journal.superseded()
        except NoSpaceError:
            return False
        except VsnapfsError as error:
            self._failed(f"the journal from @{first_seqno} to @{last_seqno} cannot be rewritten: {error}")
            if not isinstance(error, IntegrityError):
                raise
        else:
            if facts is not None:
                self._forgotten.drop(dropped)
                self._did(facts, facts.bytes_before)
        finally:
            with self._parts.change:
                self._parts.rewriting = None
                self._parts.catch_up()  # the catalog has all that was dropped
        return True

    def _points_now(self) -> tuple[int, ...]:
        """The roots, and the floor, which is what all take for the oldest point also when it is given up meanwhile."""
        points, floor = self._kept_now().points, self._plan.kept.floor
        return points if points[0] == floor else (floor, *points)

    def _did(self, facts: BaseMoveFacts | CompactFacts | None, work_bytes: int) -> None:
        self.freed_bytes += 0 if facts is None else freed([facts])
        self._done_bytes += work_bytes

    def _tell(self, what: str) -> None:
        """Raises: BusyError: the repository is being closed."""
        parts = self._parts
        parts.compaction = msgspec.structs.replace(
            parts.compaction, what=what, done_bytes=self._done_bytes, total_bytes=self._total_bytes
        )
        parts.tell(self._report, Progress(what="compaction", done=self._done_bytes, total=self._total_bytes))

    def _failed(self, problem: str) -> None:
        self._parts.tell(None, Progress(what="compaction", done=0, total=0))  # not of its own accord, if that ends it
        self.problems.append(problem)

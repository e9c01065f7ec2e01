"""Prune: which bookmarks go, by the settings, and what that gives back; then doing it.

Preview and prune are one function up to the point where the one tells and the other acts, so on the same repository they say the
same. What changes between deciding and acting is looked at once more, with the lock ``change``: a bookmark that is held, opened
or made anew by then stays, and that is said.

Source: docs/retention.md.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from vsnapfs.binding import RecordKind
from vsnapfs.binding.compact import space
from vsnapfs.catalog.bodies import BookmarkNamed
from vsnapfs.core.errors import VsnapfsError
from vsnapfs.core.keeping import Compaction, Prune, Reach
from vsnapfs.core.keeping import Fate as ToldFate
from vsnapfs.core.times import iso
from vsnapfs.policy.keep import Candidate, Facts, Fate, decide, shrink
from vsnapfs.repository import archives, base, branches, compaction, events, gaps, leases, roots
from vsnapfs.repository.bookmarks import candidate
from vsnapfs.repository.compactable import CompactableJournal
from vsnapfs.repository.compaction_plan import Kept, Plan, estimate
from vsnapfs.repository.layout import BASE
from vsnapfs.repository.parts import Parts, Report
from vsnapfs.repository.resolve import any_instant_from, window

OPEN = "open"
"""Why a point stays that somebody reads."""
TOO_LARGE = "journal and bases are larger than maximum_size, and nothing else may go"


class _Decided(NamedTuple):
    """What follows from the settings now. Without a record there is nothing to decide."""

    now_ns: int | None
    window_seqno: int
    fates: list[Fate]
    plan: Plan | None
    held_bytes: int

    @property
    def predicted_bytes(self) -> int:
        return 0 if self.plan is None else self.plan.freed_bytes

    @property
    def going(self) -> list[Fate]:
        return [fate for fate in self.fates if not fate.stays]


def preview(parts: Parts) -> Prune:
    """What ``prune`` would do now. Changes nothing. Raises: IntegrityError, BusyError: as ``prune``."""
    _require_known(parts)
    decided = _decide(parts)
    before = reach(parts)
    after = before
    if decided.plan is not None and decided.plan.groups:
        oldest, any_instant = decided.plan.kept.floor, decided.plan.first_instant_seqno
        after = Reach(oldest=parts.point(oldest), any_instant=parts.point(any_instant))
    return _told(parts, decided, before, after, dry_run=True)


def prune(parts: Parts, report: Report) -> Prune:
    """Owner: do it.

    Raises: BusyError: it is being done already, the repository is being closed, or what is archived cannot be known just now.
    IntegrityError: a base is missing, or a branch's file cannot be understood; then nothing is dropped, so that all is as it was when
    it is put back. StoreError.
    """
    parts.require_owner()
    with parts.beside("prune"):
        began = iso(time.time_ns())
        parts.compaction = msgspec.structs.replace(
            parts.compaction, running=True, what="bookmarks", done_bytes=0, total_bytes=0
        )
        try:
            _require_known(parts)
            result = _prune_in_gap(parts, report) if parts.journal.facts().gap else _prune(parts, report)
            parts.compaction = Compaction(
                last_began=began,
                last_ended=iso(time.time_ns()),
                removed=result.removed,
                freed_bytes=result.freed_bytes,
                garbage_bytes=_garbage_bytes(parts),
                waiting_files=result.waiting_files,
                problems=[*result.problems, *([] if result.fits else [TOO_LARGE])],
            )
        except VsnapfsError as error:
            parts.compaction = Compaction(last_began=began, last_ended=iso(time.time_ns()), problems=[str(error)])
            raise
    _tell(parts, result)
    return result


def _require_known(parts: Parts) -> None:
    """Raises: IntegrityError: what stands on a point, or under all of them, cannot be read."""
    base.require_all(parts)
    branches.require_points_known(parts)


def _tell(parts: Parts, result: Prune) -> None:
    """What the compaction did; nothing of one that had nothing to do."""
    if result.freed_bytes:
        oldest, any_instant = result.after.oldest, result.after.any_instant
        events.tell(
            parts,
            "compacted",
            freed_bytes=result.freed_bytes,
            predicted_bytes=result.predicted_bytes,
            oldest=None if oldest is None else oldest.time,
            any_instant_from=None if any_instant is None else any_instant.time,
        )
    if not result.fits:
        events.tell(parts, "prune_failed", reason=TOO_LARGE)
    for problem in result.problems:
        events.tell(parts, "compaction_failed", reason=problem)


def _prune_in_gap(parts: Parts, report: Report) -> Prune:
    """A full disk may be why the journal takes no writes. So give back first what needs no record, then drop names with what is
    kept free for such, and close the gap at last. Raises: NoSpaceError, StoreError: the journal takes no records either."""
    freed_bytes = _make_room(parts, report)
    gaps.take_up(parts, in_reserve=True)
    result = _prune(parts, report)
    problems = list(result.problems)
    try:
        gaps.close(parts, report)
    except VsnapfsError as error:
        problems.append(str(error))
    return msgspec.structs.replace(
        result,
        held_bytes=result.held_bytes + freed_bytes,
        predicted_bytes=result.predicted_bytes + freed_bytes,
        freed_bytes=result.freed_bytes + freed_bytes,
        problems=problems,
    )


def _make_room(parts: Parts, report: Report) -> int:
    """Returns the bytes given back by what can be done without a record: segments that lie before the window."""
    found = window(parts)
    if found is None:
        return 0
    with parts.names:
        standing = parts.index.bookmarks()
    stays = roots.kept(parts, standing, roots.window_seqno(parts), found[0].seqno)
    return compaction.make_room(parts, CompactableJournal(parts), stays, report).freed_bytes


def _prune(parts: Parts, report: Report) -> Prune:
    decided = _decide(parts)
    before = reach(parts)
    told = _told(parts, decided, before, before, dry_run=False)
    if decided.now_ns is None:
        return told
    unarchived = archives.unarchived(parts, decided.now_ns) if decided.going else {}
    changed = _remove(parts, decided)
    removed = [fate.candidate.name for fate in decided.going if fate.candidate.name not in changed]
    if removed:  # whatever becomes of the rest
        events.tell(parts, "pruned", removed=removed, kept=len(decided.fates) - len(removed), changed=changed)
    for name in removed:
        if name in unarchived:
            events.tell(parts, "archive_given_up", name, policies=unarchived[name])

    def kept_now() -> Kept:
        with parts.names:
            stays = roots.kept(parts, parts.index.bookmarks(), decided.window_seqno)
        branches.require_points_known(parts)  # the files may have been looked at anew meanwhile
        return stays

    outcome = compaction.run(parts, CompactableJournal(parts), kept_now, report)
    return msgspec.structs.replace(
        told,
        bookmarks=[
            msgspec.structs.replace(fate, stays=True, reasons=["it changed meanwhile"])
            if fate.bookmark in changed
            else fate
            for fate in told.bookmarks
        ],
        removed=len(removed),
        kept=len(decided.fates) - len(removed),
        after=reach(parts),
        freed_bytes=outcome.freed_bytes,
        fits=_fits(parts, decided.held_bytes - outcome.freed_bytes),
        changed=changed,
        waiting_files=outcome.waiting_files,
        problems=list(outcome.problems),
    )


def reach(parts: Parts) -> Reach:
    """How far back points can be opened now."""
    found = window(parts)
    if found is None:
        return Reach(oldest=None, any_instant=None)
    return Reach(oldest=found[0], any_instant=any_instant_from(parts))


def _decide(parts: Parts) -> _Decided:
    facts, chosen = parts.journal.facts(), parts.settings.retention
    held_bytes = facts.journal_bytes + parts.layout.allocated_bytes(BASE)
    if window(parts) is None:
        return _Decided(None, 0, [], None, held_bytes)
    now_ns, begin_seqno = roots.now_ns(parts), roots.window_seqno(parts)
    with parts.names:
        standing = {bookmark.name: bookmark for bookmark in parts.index.bookmarks()}
    in_use = dict.fromkeys(leases.leased(parts.layout), OPEN) | _branched(parts)
    facts_now = Facts(now_ns, begin_seqno, in_use, archives.kept(parts, now_ns))
    fates = decide([candidate(each) for each in standing.values()], facts_now, chosen)

    def plan_of(left: Sequence[Fate]) -> Plan:
        staying = [standing[fate.candidate.name] for fate in left if fate.stays]
        stays = roots.kept(parts, staying, begin_seqno)
        return estimate(CompactableJournal(parts), parts.volume_ids(), stays, parts.layout.free_bytes())

    limit = chosen.maximum_size_bytes
    if limit is not None and held_bytes > limit:
        fates = shrink(fates, lambda left: held_bytes - plan_of(left).freed_bytes <= limit)
    return _Decided(now_ns, begin_seqno, fates, plan_of(fates), held_bytes)


def _remove(parts: Parts, decided: _Decided) -> list[str]:
    """Take the names away. Returns those that stay, since they are not any more what they were when it was decided."""
    changed = []
    with parts.change:
        open_now = {*leases.leased(parts.layout), *parts.branches.seqnos()}
        bodies = []
        for fate in decided.going:
            with parts.names:
                bookmark = parts.index.bookmark(fate.candidate.name)
            if bookmark is not None and _as_decided(candidate(bookmark), fate.candidate, open_now):
                bodies.append((BookmarkNamed(bookmark.name), bookmark.seqno))
            elif bookmark is not None:
                changed.append(bookmark.name)
        parts.record_all(RecordKind.BOOKMARK_REMOVE, bodies)
    return changed


def _branched(parts: Parts) -> dict[int, str]:
    """By point: the branches on it. The point stays for them, so its names may."""
    return {seqno: f"branch {', '.join(parts.branches.standing_at(seqno))}" for seqno in parts.branches.seqnos()}


def _as_decided(now: Candidate, then: Candidate, open_now: set[int]) -> bool:
    return now == then and now.seqno not in open_now


def _garbage_bytes(parts: Parts) -> int | None:
    found = window(parts)
    if found is None:
        return None
    with parts.names:
        standing = parts.index.bookmarks()
    _, garbage_bytes = space(parts.journal, roots.kept(parts, standing, roots.window_seqno(parts)).points)
    return garbage_bytes


def _fits(parts: Parts, left_bytes: int) -> bool:
    limit = parts.settings.retention.maximum_size_bytes
    return limit is None or left_bytes <= limit


def _told(parts: Parts, decided: _Decided, before: Reach, after: Reach, *, dry_run: bool) -> Prune:
    going = len(decided.going)
    return Prune(
        dry_run=dry_run,
        time=None if decided.now_ns is None else iso(decided.now_ns),
        bookmarks=[
            ToldFate(
                bookmark=fate.candidate.name,
                seqno=fate.candidate.seqno,
                time=iso(fate.candidate.time_ns),
                stays=fate.stays,
                reasons=list(fate.reasons),
            )
            for fate in decided.fates
        ],
        removed=going,
        kept=len(decided.fates) - going,
        before=before,
        after=after,
        held_bytes=decided.held_bytes,
        predicted_bytes=decided.predicted_bytes,
        freed_bytes=0,
        fits=_fits(parts, decided.held_bytes - decided.predicted_bytes),
        changed=[],
        waiting_files=0,
        problems=[],
    )

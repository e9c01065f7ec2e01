"""What a compaction would do, and what that gives back: worked out before, from the same figures.

Before the protection window only *roots* can be read: bookmarks, points that somebody has open, and the window's first point.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from vsnapfs.binding import BaseMoveFacts, CompactFacts, Event, JournalFacts, SegmentFacts
from vsnapfs.policy.compaction import File, Group, is_garbage, worth_rewriting
from vsnapfs.repository.forgotten import Forgotten


class Compactable(Protocol):
    """What this asks of a journal."""

    def facts(self) -> JournalFacts: ...
    def segments(self) -> list[SegmentFacts]: ...
    def events(self, after: int = 0) -> Iterable[Event]: ...
    def floor(self, seqno: int) -> None: ...
    def base_move(self, volume: int, seqno: int) -> BaseMoveFacts | None: ...
    def base_move_estimate(self, volume: int, seqno: int) -> BaseMoveFacts | None: ...
    def compact(
        self, ordinal: int, ordinals: int, points: Sequence[int], dropped: Sequence[int]
    ) -> CompactFacts | None: ...
    def compact_estimate(
        self, ordinal: int, ordinals: int, points: Sequence[int], dropped: Sequence[int], floor: int
    ) -> CompactFacts | None: ...
    def superseded(self) -> int: ...


class Kept(NamedTuple):
    """What has to stay readable."""

    points: tuple[int, ...]
    """The roots, ascending; the last is the window's first point, after which every point stays."""
    bookmarks: Mapping[str, int]
    """By name the record that made it, of those that stay."""

    @property
    def floor(self) -> int:
        return self.points[0]

    def stays(self, name: str, created_seqno: int) -> bool:
        return self.bookmarks.get(name) == created_seqno


class Plan(NamedTuple):
    """What a run would do."""

    kept: Kept
    moves: dict[int, BaseMoveFacts]
    """By volume."""
    groups: dict[Group, CompactFacts]
    """In the order in which they are rewritten."""
    first_instant_seqno: int
    """From here on every point can be read afterwards."""

    @property
    def freed_bytes(self) -> int:
        """Negative if it takes more than it gives."""
        return freed(self.moves.values()) + freed(self.groups.values())

    @property
    def work_bytes(self) -> int:
        """How much is read and written, about: for the progress."""
        return sum(move.copied_bytes for move in self.moves.values()) + sum(
            group.bytes_before for group in self.groups.values()
        )


def freed(facts: Iterable[BaseMoveFacts | CompactFacts]) -> int:
    return sum(each.bytes_before - each.bytes_after for each in facts)


def estimate(journal: Compactable, volumes: Iterable[int], kept: Kept) -> Plan:
    """The plan that gives back more: with bases that move, or with bases as they are. volumes: all there ever were."""
    moves = {
        volume: facts for volume in volumes if (facts := journal.base_move_estimate(volume, kept.floor)) is not None
    }
    plan = with_moves(journal, kept, moves)
    if plan.groups and plan.freed_bytes >= 0:
        return plan
    return with_moves(journal, kept, {}) if moves else plan


def with_moves(journal: Compactable, kept: Kept, moves: dict[int, BaseMoveFacts]) -> Plan:
    """The plan if these bases move to the floor, and no others do."""
    floor = kept.floor if moves else 0
    forgotten = Forgotten(journal.events(), kept.stays)
    segments = journal.segments()
    groups = {}
    for group in _worth_a_look(journal, segments, kept, forgotten, floor):
        first_seqno, last_seqno = span_of(segments, group)
        dropped = forgotten.within(first_seqno, last_seqno)
        facts = journal.compact_estimate(*group, points_for(segments, group, kept), dropped, floor)
        if facts is not None and (facts.segments > 1 or is_garbage(facts.bytes_before, facts.bytes_after)):
            groups[group] = facts
            forgotten.drop(dropped)
            segments = _replaced(segments, group)
    return Plan(kept, moves, groups, first_instant_seqno(segments, journal.facts()))


def _worth_a_look(
    journal: Compactable, segments: Sequence[SegmentFacts], kept: Kept, forgotten: Forgotten, floor: int
) -> list[Group]:
    """The newest first: see ``points_for``."""
    files = []
    for each in before_window(segments, kept):
        dropped = forgotten.within(each.first_seqno, each.last_seqno)
        facts = journal.compact_estimate(each.ordinal, each.ordinals, kept.points, dropped, floor)
        after = None if facts is None else facts.bytes_after
        files.append(File(each.ordinal, each.ordinals, each.size_bytes, after))
    return worth_rewriting(files)[::-1]


def points_for(segments: Sequence[SegmentFacts], group: Group, kept: Kept) -> list[int]:
    """The points for which a group has to keep what they need: the roots, and others that can still be opened all the same.

    In segments that are not compacted every point can be opened, also before the protection window. What the group has to keep for
    those of a run of such segments is what was there when the run began. The last point is the beginning of the last run, behind which
    every point stays. So it is best to begin with the newest group: for the next one there are fewer runs.
    """
    runs = []
    is_compacted = True
    for each in segments:
        if each.ordinal >= group.ordinal + group.ordinals:
            if is_compacted and not each.generation:
                runs.append(each.first_seqno - 1)
            is_compacted = bool(each.generation)
    if is_compacted:
        runs.append(segments[-1].last_seqno)
    return sorted({point for point in kept.points if point < runs[-1]} | set(runs))


def before_window(segments: Sequence[SegmentFacts], kept: Kept) -> list[SegmentFacts]:
    """The files that may be rewritten."""
    return [each for each in segments if each.sealed and each.last_seqno <= kept.points[-1]]


def span_of(segments: Sequence[SegmentFacts], group: Group) -> tuple[int, int]:
    """First and last record of a group."""
    members = [each for each in segments if group.ordinal <= each.ordinal < group.ordinal + group.ordinals]
    return members[0].first_seqno, members[-1].last_seqno


def first_instant_seqno(segments: Sequence[SegmentFacts], facts: JournalFacts) -> int:
    """From here on every point can be read: behind the last segment that was compacted."""
    compacted = [each.last_seqno for each in segments if each.generation]
    return max([facts.first_seqno, *(min(last_seqno + 1, facts.committed_seqno) for last_seqno in compacted[-1:])])


def _replaced(segments: Sequence[SegmentFacts], group: Group) -> list[SegmentFacts]:
    """The same after the group was rewritten, as far as ``points_for`` and ``first_instant_seqno`` ask."""
    end = group.ordinal + group.ordinals
    inside = [each for each in segments if group.ordinal <= each.ordinal < end]
    one = inside[0]._replace(last_seqno=inside[-1].last_seqno, ordinals=group.ordinals, generation=1)
    return sorted([*(each for each in segments if each not in inside), one])

"""What a compaction would do, and what that gives back: worked out before, from the same figures.

Before the protection window only *roots* can be read: bookmarks, points that somebody has open, and the window's first point.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from vsnapfs.binding import JournalFacts, SegmentFacts
from vsnapfs.binding.base_move import BaseMoveFacts
from vsnapfs.binding.compact import CompactFacts, Wish
from vsnapfs.policy.compaction import File, Group, worth_rewriting
from vsnapfs.repository.compactable import Compactable
from vsnapfs.repository.forgotten import Forgotten

SPARE_BYTES = 1 << 20
"""Left free when something is written, or as much as that if it is less: a small file has to give back much on a full disk.
Else the reserve of the settings may be used: more is given back than was taken.
"""


class Kept(NamedTuple):
    """What has to stay readable."""

    points: tuple[int, ...]
    """The roots, ascending; the last is the window's first point, after which every point stays."""
    bookmarks: Mapping[str, int]
    """By name the record that made it, of those that stay."""

    @property
    def floor(self) -> int:
        return self.points[0]

    def next_point(self, seqno: int) -> int:
        """The first of them behind a record; the record where none is."""
        return next(iter(self.points[bisect_right(self.points, seqno) :]), seqno)

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
    def room_bytes(self) -> int:
        """So much has to be free for it."""
        largest = max((group.bytes_after for group in self.groups.values()), default=0)
        return sum(max(0, move.bytes_after - move.bytes_before) for move in self.moves.values()) + room_bytes(largest)

    @property
    def work_bytes(self) -> int:
        """How much is read and written, about: for the progress."""
        return sum(move.copied_bytes for move in self.moves.values()) + sum(
            group.bytes_before for group in self.groups.values()
        )


def room_bytes(file_bytes: int) -> int:
    """What has to be free for a file of that size."""
    return file_bytes + min(file_bytes, SPARE_BYTES)


def freed(facts: Iterable[BaseMoveFacts | CompactFacts]) -> int:
    return sum(each.bytes_before - each.bytes_after for each in facts)


def estimate(journal: Compactable, volumes: Iterable[int], kept: Kept, free_bytes: int) -> Plan:
    """The plan that gives back more: with bases that move, or with bases as they are. volumes: all there ever were. free_bytes: of
    the disk; bases do not move where they would leave no room for the groups."""
    moves = {volume: facts for volume in volumes if (facts := journal.estimate_move(volume, kept.floor)) is not None}
    plan = with_moves(journal, kept, moves)
    if plan.groups and plan.freed_bytes >= 0 and plan.room_bytes <= free_bytes:
        return plan
    return with_moves(journal, kept, {}) if moves else plan


def with_moves(journal: Compactable, kept: Kept, moves: dict[int, BaseMoveFacts]) -> Plan:
    """The plan if these bases move to the floor, and no others do."""
    floor = kept.floor if moves else 0
    forgotten = Forgotten(journal.events(), kept.stays)
    segments = journal.segments()
    groups = {}
    for group in _worth_it(journal, segments, kept, forgotten, floor):
        dropped = forgotten.within(*span_of(segments, group))
        facts = journal.estimate(Wish(*group, kept.points, dropped), floor)
        if facts is not None:
            groups[group] = facts
            forgotten.drop(dropped)
    until = [kept.next_point(span_of(segments, group)[1]) for group in groups]
    return Plan(kept, moves, groups, max([first_instant_seqno(segments, journal.facts()), *until]))


def _worth_it(
    journal: Compactable, segments: Sequence[SegmentFacts], kept: Kept, forgotten: Forgotten, floor: int
) -> list[Group]:
    files = []
    for each in segments:
        if not each.sealed or each.last_seqno > kept.points[-1]:
            break
        dropped = forgotten.within(each.first_seqno, each.last_seqno)
        facts = journal.estimate(Wish(each.ordinal, each.ordinals, kept.points, dropped), floor)
        after = None if facts is None else facts.bytes_after
        files.append(File(each.ordinal, each.ordinals, each.size_bytes, after))
    return worth_rewriting(files)


def span_of(segments: Sequence[SegmentFacts], group: Group) -> tuple[int, int]:
    """First and last record of a group."""
    members = [each for each in segments if group.ordinal <= each.ordinal < group.ordinal + group.ordinals]
    return members[0].first_seqno, members[-1].last_seqno


def first_instant_seqno(segments: Sequence[SegmentFacts], facts: JournalFacts) -> int:
    """From here on every point can be read. Before it, some lack what compactions have dropped."""
    return max([facts.first_seqno, *(each.until_seqno for each in segments)])

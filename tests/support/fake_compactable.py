"""A journal that can be compacted, in memory: writes of whole blocks, events of bookmarks, segments of so many records.

What a compaction leaves is found by trying each root for each write, so that nothing here is as clever as what it is to test. Sizes
are made up, but follow from the records alone: a block for the header, one for the footer, one for each write, 64 bytes an event.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from tests.support.fake_journal import FakeJournal
from vsnapfs.binding import Event, JournalFacts, SegmentFacts
from vsnapfs.binding.base_move import BaseMoveFacts
from vsnapfs.binding.compact import CompactFacts, Wish
from vsnapfs.core.errors import BusyError

BLOCK = 4096
EVENT_BYTES = 64


class FakeCompactable(FakeJournal):
    """``write`` puts a block; a segment is sealed with its last record."""

    def __init__(self, records: int) -> None:
        super().__init__()
        self._records = records
        self._writes: dict[int, tuple[int, int]] = {}
        """Volume and block, by seqno; those that are in the journal still."""
        self._covered: dict[int, int] = {}
        """By what record a write was covered."""
        self._newest: dict[tuple[int, int], int] = {}
        self._compacted: dict[int, int] = {}
        """Generation by the first of the ordinals that a compacted segment stands for."""
        self._ordinals: dict[int, int] = {}
        self.bases: dict[int, int] = {}
        """By volume the record that its base is at."""
        self.base_blocks: dict[int, dict[int, int]] = {}
        self.floors: list[int] = []
        self.did: list[str] = []
        self._until: dict[int, int] = {}
        """By the first ordinal of a compacted segment: points from its end to here lack something."""
        self._gone: set[int] = set()
        """Points in compacted segments that are not listed there."""
        self._whole: list[tuple[int, int]] = []
        """Volume and block of every write there ever was, by seqno - 1; volume 0: no write."""
        self.busy = False
        """Somebody reads below the floor."""

    def write(self, volume: int, block: int) -> int:
        self.skip(1)
        before = self._newest.get((volume, block))
        if before is not None:
            self._covered[before] = self.last_seqno
        self._newest[volume, block] = self.last_seqno
        self._writes[self.last_seqno] = (volume, block)
        self._whole[-1] = (volume, block)
        return self.last_seqno

    def skip(self, records: int) -> None:
        super().skip(records)
        self._note()

    def commit(self) -> None:
        super().commit()
        self._note()

    def _note(self) -> None:
        self._whole += [(0, 0)] * (self.last_seqno - len(self._whole))

    def openable(self) -> list[int]:
        """Every point that a reader could open."""
        lacking = set(self._gone)
        for ordinal, until in self._until.items():
            lacking |= set(range((ordinal + self._ordinals[ordinal]) * self._records + 1, until))
        floor = (self.floors or [1])[-1]
        return [seqno for seqno in range(floor, self.last_seqno + 1) if seqno not in lacking]

    def wrong(self) -> list[int]:
        """Points that could be opened, and would not show what was written."""
        openable, found = set(self.openable()), []
        bases = {(volume, block): at for volume, blocks in self.base_blocks.items() for block, at in blocks.items()}
        shown = dict(bases)
        differ = set(shown)
        for seqno, (volume, block) in enumerate(self._whole, 1):
            if volume:
                place = (volume, block)
                if seqno in self._writes and seqno > self.bases.get(volume, 0):
                    shown[place] = seqno
                (differ.discard if shown.get(place) == seqno else differ.add)(place)
            if seqno in openable and differ:
                found.append(seqno)
        return found

    def facts(self) -> JournalFacts:
        held = sum(segment.size_bytes for segment in self.segments())
        floor = self.floors[-1] if self.floors else 1
        return super().facts()._replace(first_seqno=floor, journal_bytes=held, segments=len(self.segments()))

    def segments(self) -> list[SegmentFacts]:
        found, ordinal = [], 0
        there = sorted(self._writes)
        while ordinal * self._records < self.last_seqno:
            ordinals = self._ordinals.get(ordinal, 1)
            first, last = ordinal * self._records + 1, (ordinal + ordinals) * self._records
            sealed = last <= self.last_seqno
            generation = self._compacted.get(ordinal, 0)
            size = self._size(first, last, bisect_left(there, last + 1) - bisect_left(there, first), frozenset())
            last = min(last, self.last_seqno)
            found.append(
                SegmentFacts(first, last, size, sealed, b"", ordinal, ordinals, generation, self._until.get(ordinal, 0))
            )
            ordinal += ordinals
        return found

    def needed(self, seqno: int, points: Sequence[int], floor: int) -> bool:
        """Is a write needed, if bases are at floor at least?"""
        volume, _ = self._writes[seqno]
        if seqno <= max(self.bases.get(volume, 0), floor):
            return False
        until = self._covered.get(seqno, 1 << 62)
        return until > points[-1] or any(seqno <= point < until for point in points)

    def estimate(self, wish: Wish, floor: int) -> CompactFacts | None:
        ordinal, ordinals, points, dropped = wish
        members = [each for each in self.segments() if ordinal <= each.ordinal < ordinal + ordinals]
        if not all(each.sealed and each.last_seqno <= points[-1] for each in members):
            return None
        if members[0].ordinal != ordinal or ordinal % ordinals or sum(each.ordinals for each in members) != ordinals:
            return None
        first, last = members[0].first_seqno, members[-1].last_seqno
        there = [seqno for seqno in range(first, last + 1) if seqno in self._writes]
        stay = {seqno for seqno in there if self.needed(seqno, points, floor)}
        after = self._size(first, last, len(stay), frozenset(dropped))
        before = sum(each.size_bytes for each in members)
        return CompactFacts(len(members), before, after, len(stay), len(there), len(stay))

    def compact(self, wish: Wish) -> CompactFacts | None:
        ordinal, ordinals, points, dropped = wish
        facts = self.estimate(wish, 0)
        if facts is None:
            return None
        first, last = ordinal * self._records + 1, (ordinal + ordinals) * self._records
        self.did.append(f"compact {ordinal}+{ordinals}")
        self._writes = {
            seqno: what
            for seqno, what in self._writes.items()
            if not first <= seqno <= last or self.needed(seqno, points, 0)
        }
        self._events = [event for event in self._events if event.seqno not in set(dropped)]
        for inner in range(ordinal, ordinal + ordinals):
            self._ordinals.pop(inner, None)
            self._compacted.pop(inner, None)
            self._until.pop(inner, None)
        self._ordinals[ordinal], self._compacted[ordinal] = ordinals, len(self.did)
        openable = set(self.openable())
        assert {point for point in points if point < self.last_seqno} <= openable, "a root that is not whole"
        self._gone |= set(range(first, last + 1)) - set(points)
        self._until[ordinal] = next((point for point in points if point > last), last)
        return facts

    def set_floor(self, seqno: int) -> None:
        assert not self.floors or seqno >= self.floors[-1]
        self.floors.append(seqno)
        self.did.append(f"floor {seqno}")

    def estimate_move(self, volume: int, seqno: int) -> BaseMoveFacts | None:
        at = self.bases.get(volume, 0)
        if seqno <= at:
            return None
        blocks = self.base_blocks.get(volume, {})
        new = {block for each, (owner, block) in self._writes.items() if owner == volume and at < each <= seqno}
        before, after = len(blocks), len(set(blocks) | new)
        return BaseMoveFacts(before * BLOCK, after * BLOCK, len(new) * BLOCK, 0) if new else None

    def move_base(self, volume: int, seqno: int) -> BaseMoveFacts | None:
        if self.busy:
            raise BusyError("somebody reads below the floor")
        assert self.floors[-1] == seqno
        facts = self.estimate_move(volume, seqno)
        blocks = self.base_blocks.setdefault(volume, {})
        for each, (owner, block) in sorted(self._writes.items()):
            if owner == volume and self.bases.get(volume, 0) < each <= seqno:
                blocks[block] = each
        self.bases[volume] = seqno
        self.did.append(f"move {volume}")
        return facts

    def superseded(self) -> int:
        return 0

    def read(self, volume: int, point: int) -> dict[int, int]:
        """What a point shows: by block the record that wrote it. Fails where something is missing."""
        found = dict(self.base_blocks.get(volume, {}))
        for seqno, (owner, block) in sorted(self._writes.items()):
            if owner == volume and self.bases.get(volume, 0) < seqno <= point:
                found[block] = seqno
        return found

    def events(self, after: int = 0) -> Iterator[Event]:
        return iter([event for event in self._events if event.seqno > after])

    def _size(self, first: int, last: int, blocks: int, dropped: frozenset[int]) -> int:
        events = sum(1 for event in self._events if first <= event.seqno <= last and event.seqno not in dropped)
        return (2 + blocks) * BLOCK + events * EVENT_BYTES

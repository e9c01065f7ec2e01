"""A journal, with its bases, as the compaction sees it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from vsnapfs.binding import Event, JournalFacts, SegmentFacts
from vsnapfs.binding.base_move import BaseMoveFacts, estimate_move, move_base, set_floor
from vsnapfs.binding.compact import CompactFacts, Wish, compact, estimate_compaction
from vsnapfs.repository import events
from vsnapfs.repository.layout import base_image, base_index
from vsnapfs.repository.parts import Parts


class Compactable(Protocol):
    """What is asked of it."""

    def facts(self) -> JournalFacts: ...
    def segments(self) -> list[SegmentFacts]: ...
    def events(self) -> Iterable[Event]: ...
    def set_floor(self, seqno: int) -> None: ...
    def move_base(self, volume: int, seqno: int) -> BaseMoveFacts | None: ...
    def estimate_move(self, volume: int, seqno: int) -> BaseMoveFacts | None: ...
    def compact(self, wish: Wish) -> CompactFacts | None: ...
    def estimate(self, wish: Wish, floor: int) -> CompactFacts | None: ...
    def superseded(self) -> int: ...


class CompactableJournal:
    """The real one. A base whose volume was removed by then moves to nothing."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._journal = parts.journal
        self.facts = parts.journal.facts
        self.segments = parts.journal.segments
        self.superseded = parts.journal.superseded

    def events(self) -> Iterable[Event]:
        return self._journal.events()

    def set_floor(self, seqno: int) -> None:
        set_floor(self._journal, seqno)

    def move_base(self, volume: int, seqno: int) -> BaseMoveFacts | None:
        gone = self._gone(volume, seqno)
        moved = move_base(self._journal, volume, seqno)
        facts = gone or moved
        if facts is not None:
            with self._parts.names:
                entry = self._parts.index.volume_by_id(volume)
            events.tell(self._parts, "base_moved", str(volume) if entry is None else entry.name, seqno=seqno)
        return facts

    def estimate_move(self, volume: int, seqno: int) -> BaseMoveFacts | None:
        return self._gone(volume, seqno) or estimate_move(self._journal, volume, seqno)

    def compact(self, wish: Wish) -> CompactFacts | None:
        return compact(self._journal, wish)

    def estimate(self, wish: Wish, floor: int) -> CompactFacts | None:
        return estimate_compaction(self._journal, wish, floor)

    def _gone(self, volume: int, seqno: int) -> BaseMoveFacts | None:
        """What a base takes that no point from ``seqno`` on needs."""
        with self._parts.names:
            entry = self._parts.index.volume_by_id(volume)
        if entry is None or entry.removed_seqno is None or entry.removed_seqno > seqno:
            return None
        found = [self._parts.layout.stat(name) for name in (base_image(volume), base_index(volume))]
        held_bytes = sum(file.st_blocks * 512 for file in found if file is not None)
        return BaseMoveFacts(held_bytes, 0, 0, 0) if held_bytes else None

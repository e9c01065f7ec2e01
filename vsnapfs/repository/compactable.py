"""A journal as the compaction sees it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from vsnapfs.binding import Event, Journal, JournalFacts, SegmentFacts
from vsnapfs.binding.base_move import BaseMoveFacts, estimate_move, move_base, set_floor
from vsnapfs.binding.compact import CompactFacts, Wish, compact, estimate_compaction


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
    """The real one."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.facts = journal.facts
        self.segments = journal.segments
        self.superseded = journal.superseded

    def events(self) -> Iterable[Event]:
        return self._journal.events()

    def set_floor(self, seqno: int) -> None:
        set_floor(self._journal, seqno)

    def move_base(self, volume: int, seqno: int) -> BaseMoveFacts | None:
        return move_base(self._journal, volume, seqno)

    def estimate_move(self, volume: int, seqno: int) -> BaseMoveFacts | None:
        return estimate_move(self._journal, volume, seqno)

    def compact(self, wish: Wish) -> CompactFacts | None:
        return compact(self._journal, wish)

    def estimate(self, wish: Wish, floor: int) -> CompactFacts | None:
        return estimate_compaction(self._journal, wish, floor)

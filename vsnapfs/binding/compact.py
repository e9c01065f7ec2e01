"""Compaction: writing again what is needed of a group of segments, and how many bytes are needed by whom.

Source: native/include/compact.h.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from vsnapfs.binding._native import ffi, lib
from vsnapfs.binding.faults import check
from vsnapfs.binding.journal import Journal


class CompactFacts(NamedTuple):
    """A group of segments, and the one that takes its place; each is explained in compact.h."""

    segments: int
    bytes_before: int
    bytes_after: int
    payload_blocks: int
    records_before: int
    records_after: int


class Wish(NamedTuple):
    """What a compaction is asked for."""

    ordinal: int
    ordinals: int
    points: Sequence[int]
    """The roots, ascending; the last is the first point of the window."""
    dropped: Sequence[int]
    """Seqnos of bookmarks' events that are left out, ascending."""


def compact(journal: Journal, wish: Wish) -> CompactFacts | None:
    """Do it. None: it is not possible. Raises: CorruptExtentError: damage, and the group stays as it is. NoSpaceError, BusyError."""
    out = ffi.new("vs_compact_facts *")
    status = lib.vs_journal_compact(journal.c, *_arguments(wish), out)
    return _facts(out) if check(status, "compact the journal") else None


def estimate_compaction(journal: Journal, wish: Wish, floor: int) -> CompactFacts | None:
    """What it would come to, exactly, once all bases have moved to ``floor`` (0: as they are). None: it is not possible."""
    out = ffi.new("vs_compact_facts *")
    status = lib.vs_journal_compact_estimate(journal.c, *_arguments(wish), floor, out)
    return _facts(out) if check(status, "look at the journal") else None


def space(journal: Journal, points: Sequence[int]) -> tuple[list[int], int]:
    """Of the journal's payload: bytes that only one root needs, for each of them, and bytes that none does."""
    exclusive, garbage = ffi.new("uint64_t[]", len(points)), ffi.new("uint64_t *")
    status = lib.vs_journal_space(journal.c, _numbers(points), len(points), exclusive, garbage)
    check(status, "count what points need of the journal")
    return list(exclusive), int(garbage[0])


def _arguments(wish: Wish) -> tuple[Any, ...]:
    points, dropped = wish.points, wish.dropped
    return wish.ordinal, wish.ordinals, _numbers(points), len(points), _numbers(dropped), len(dropped)


def _numbers(seqnos: Sequence[int]) -> Any:
    return ffi.new("uint64_t[]", list(seqnos)) if seqnos else ffi.NULL


def _facts(c: Any) -> CompactFacts:
    return CompactFacts(*(int(getattr(c, name)) for name in CompactFacts._fields))

"""What can be read to be compared, in pieces: a segment, a window of a base image, or a branch."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import NamedTuple

from vsnapfs.catalog.index import VolumeEntry
from vsnapfs.core.errors import IntegrityError
from vsnapfs.repository import base
from vsnapfs.repository.parts import Parts

WINDOW_BYTES = 64 << 20


class Kind(IntEnum):
    """In the order in which a scrub takes them."""

    STRUCTURE = 0
    BASE = 1
    SEGMENT = 2
    BRANCH = 3


class Unit(NamedTuple):
    """A piece. They ascend, so a place among them can be kept."""

    kind: Kind
    number: int
    """Volume id of a base, first seqno of a segment, id of a branch."""
    offset_bytes: int = 0
    """Of a base: where the window of WINDOW_BYTES begins."""
    held_bytes: int = 0
    """How much there is to read."""


def all_units(parts: Parts) -> list[Unit]:
    """Every base and segment, in order. A base that cannot be opened has none."""
    found = [unit for entry in base.needed(parts) for unit in _windows(parts, entry)]
    segments = parts.journal.segments()
    return found + [Unit(Kind.SEGMENT, segment.first_seqno, held_bytes=segment.size_bytes) for segment in segments]


def total_bytes(units: Iterable[Unit]) -> int:
    return sum(unit.held_bytes for unit in units)


def part_of(units: list[Unit], percent: float, seed: int) -> list[Unit]:
    """Units chosen by chance, whole ones, until they are so much of all bytes."""
    wanted = total_bytes(units) * percent / 100
    mixed = random.Random(seed).sample(units, len(units))
    chosen: list[Unit] = []
    for unit in mixed:
        if wanted <= 0:
            break
        chosen.append(unit)
        wanted -= unit.held_bytes
    return chosen


def _windows(parts: Parts, entry: VolumeEntry) -> Iterator[Unit]:
    sums: dict[int, int] = {}
    try:
        opened = base.oldest_view(parts, entry)
        if opened is None:
            return  # no point needs it any more
        with opened:
            for span in base.spans_of(opened):
                at = span.start_bytes
                while at < span.end_bytes:
                    window = at // WINDOW_BYTES * WINDOW_BYTES
                    end = min(span.end_bytes, window + WINDOW_BYTES)
                    sums[window] = sums.get(window, 0) + end - at
                    at = end
    except IntegrityError:
        return  # what is wrong with it is told by who checks it
    for window, held in sums.items():
        yield Unit(Kind.BASE, entry.id, window, held)

"""Runs in whole blocks, and where each lies in what is stored, against maps of single blocks."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from vsnapfs.archive.extents import BLOCK_BYTES, Extents, Span, in_blocks
from vsnapfs.core.errors import IntegrityError

pytestmark = pytest.mark.unit


def random_spans(dice: random.Random, size_bytes: int) -> list[Span]:
    """Neighbours that touch are of two kinds; some are shorter than a block."""
    edges = sorted(dice.sample(range(0, size_bytes + 1, 512), dice.randrange(2, 20)))
    found: list[Span] = []
    for start, end in pairwise(edges):
        touching = [] if not found else [span for span in found[-1:] if span.offset_bytes + span.length_bytes == start]
        if dice.random() < 0.7:
            found.append(Span(start, end - start, not touching[0].zero if touching else dice.random() < 0.5))
    return found


@pytest.mark.parametrize("seed", range(40))
def test_blocks_hold_all_data_and_no_zeros_but_whole_ones(seed: int) -> None:
    dice = random.Random(seed)
    size_bytes = dice.choice((64 << 10, (64 << 10) - 512, 20_480 + 1024))
    spans = random_spans(dice, size_bytes)
    found = list(in_blocks(spans, size_bytes))
    kinds: dict[int, set[str]] = {block: set() for block in range(-(-size_bytes // BLOCK_BYTES))}
    for block, kind in kinds.items():
        for at in range(block * BLOCK_BYTES, min((block + 1) * BLOCK_BYTES, size_bytes), 512):
            inside = [span for span in spans if span.offset_bytes <= at < span.offset_bytes + span.length_bytes]
            kind.add("kept" if not inside else "zero" if inside[0].zero else "data")
    wanted: dict[int, bool | None] = {
        block: None if kind == {"kept"} else kind == {"zero"} for block, kind in kinds.items()
    }
    got: dict[int, bool | None] = dict.fromkeys(kinds)
    end = 0
    for span in found:
        assert span.offset_bytes >= end
        end = span.offset_bytes + span.length_bytes
        assert span.offset_bytes % BLOCK_BYTES == 0
        assert end % BLOCK_BYTES == 0 or end == size_bytes
        for block in range(span.offset_bytes // BLOCK_BYTES, -(-end // BLOCK_BYTES)):
            got[block] = span.zero
    assert got == wanted
    touching = pairwise(found)
    assert not any(a.zero == b.zero and a.offset_bytes + a.length_bytes == b.offset_bytes for a, b in touching)


@pytest.mark.parametrize("seed", range(20))
def test_places_are_those_of_a_list_of_bytes(seed: int) -> None:
    dice = random.Random(seed)
    extents, stored, at = Extents(), list[int](), 0
    for _ in range(dice.randrange(1, 12)):
        at += dice.randrange(0, 9)
        length = dice.randrange(1, 9)
        extents.add(at, length)
        stored += range(at, at + length)
        at += length
    assert extents.stored_bytes == len(stored)
    assert extents.end_bytes == at
    assert [byte for offset, length in extents for byte in range(offset, offset + length)] == stored
    for _ in range(20):
        start = dice.randrange(len(stored))
        length = dice.randrange(len(stored) - start + 1)
        got = [byte for offset, count in extents.places(start, length) for byte in range(offset, offset + count)]
        assert got == stored[start : start + length]
    assert Extents.decode(extents.encode()) == extents


def test_runs_that_touch_are_one_and_disorder_is_refused() -> None:
    extents = Extents([(0, 4096), (4096, 4096), (12288, 512)])
    assert list(extents) == [(0, 8192), (12288, 512)]
    for wrong in ((12288, 512), (0, 1), (20000, 0), (20000, -1)):
        with pytest.raises(ValueError, match="a run of"):
            extents.add(*wrong)


@pytest.mark.parametrize("text", ["!", "AAAA", "AAAAAAAAAAA=", "AAAAAAAAAAAAAAAAAAAAAA=="])
def test_a_damaged_map_is_refused(text: str) -> None:
    with pytest.raises(IntegrityError, match="a map on the tape is none"):
        Extents.decode(text)

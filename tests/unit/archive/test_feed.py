"""Reading ahead: all of it in order, errors where it is taken, and an end at any moment."""

from __future__ import annotations

import random

import pytest

from tests.support.volumes_in_memory import MemorySource, manifest_of
from vsnapfs.archive.feed import BLOCK_BYTES, Feed
from vsnapfs.archive.sums import SummedStream
from vsnapfs.core.errors import CorruptExtentError

pytestmark = pytest.mark.unit

MIB = 1 << 20


class Damaged(MemorySource):
    def readinto(self, offset_bytes: int, buffer: memoryview) -> None:
        if offset_bytes + len(buffer) > 6 * MIB:
            raise CorruptExtentError("volume db1 is damaged", volume="db1")
        super().readinto(offset_bytes, buffer)


def stream(kind: type[MemorySource] = MemorySource) -> SummedStream:
    return SummedStream(manifest_of(), [MemorySource("db0", MIB, [(0, 8192)]), kind("db1", 9 * MIB, [(0, 9 * MIB)])])


def whole() -> bytes:
    again = stream()
    return b"".join(bytes(part) for part in again.read(0, again.length_bytes))


@pytest.mark.parametrize("buffer_bytes", [1, 64 * MIB])
@pytest.mark.parametrize("start", [0, 512, 5 * MIB])
def test_it_is_the_stream_in_any_pieces(buffer_bytes: int, start: int) -> None:
    wanted, dice = whole(), random.Random(start)
    again = stream()
    feed = Feed(again, start, buffer_bytes)
    at = start
    try:
        while at < len(wanted):
            length = min(dice.choice((1, 700, BLOCK_BYTES, 3 * BLOCK_BYTES + 5)), len(wanted) - at)
            found = bytearray()
            for block in feed.take(length):
                found += block.memory
                block.free()
            assert found == wanted[at : at + length]
            at += length
    finally:
        feed.close()
    assert len(again.known) == len(again.members) - 1


def test_damage_is_raised_where_it_is_taken_and_again() -> None:
    feed = Feed(stream(Damaged), 0, 64 * MIB)
    taken = 0
    for _ in range(2):
        blocks = feed.take(20 * MIB)
        with pytest.raises(CorruptExtentError, match="volume db1 is damaged"):  # noqa: PT012
            while True:
                taken += len(next(blocks).memory)
    assert taken == 6 * MIB
    feed.close()


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_it_ends_at_any_moment(taken: int) -> None:
    """Also while it waits for a buffer, and for digests before what is at the end."""
    for start in (0, 8 * MIB):
        feed = Feed(stream(), start, 4 * BLOCK_BYTES)
        blocks = feed.take(64 * MIB)
        for _ in range(min(taken, 2 if start else taken)):
            next(blocks)
        feed.close()
        feed.close()

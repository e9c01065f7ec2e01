"""How long a piece may be for what is left of a tape."""

from __future__ import annotations

import random

import pytest

from vsnapfs.archive.coding import Blocks, Coding, encoded
from vsnapfs.archive.extents import Extents
from vsnapfs.archive.feed import kept
from vsnapfs.archive.index import ChunkDigest, encode_maps
from vsnapfs.archive.room import INDEX_BYTES, piece_room
from vsnapfs.archive.stream import VolumeMap

pytestmark = pytest.mark.unit

MIB = 1 << 20


class Tape:
    def __init__(self, capacity_bytes: int | None, used_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self.used_bytes = used_bytes


def room(tape: Tape, coding: Coding = Coding(), maps: dict[str, VolumeMap] | None = None) -> int | None:  # noqa: B008
    return piece_room(tape, coding, maps or {})  # type: ignore[arg-type]


def test_nobody_knows_of_a_drive() -> None:
    assert room(Tape(None, 0)) is None


def test_a_sliver_is_not_begun_on() -> None:
    assert room(Tape(64 * MIB, 63 * MIB)) == 0
    assert room(Tape(64 * MIB, 64 * MIB)) == 0
    assert (room(Tape(64 * MIB, 60 * MIB)) or 0) > 3 * MIB


@pytest.mark.parametrize("coding", [Coding(), Coding("zstd")], ids=["plain", "zstd"])
@pytest.mark.parametrize("capacity_bytes", [MIB, 40 * MIB])
def test_a_piece_of_that_length_has_room_with_its_index(coding: Coding, capacity_bytes: int) -> None:
    """Also if it cannot be compressed, and the map of a volume is long."""
    maps = {"db0": VolumeMap(Extents((block << 14, 4096) for block in range(5000)), Extents())}
    found = room(Tape(capacity_bytes, 2048), coding, maps)
    assert found
    digest = ChunkDigest()
    content = random.Random(1).randbytes(found)

    def blocks() -> Blocks:
        yield kept(content)

    for block in encoded(blocks(), coding):
        digest.update(block.memory)
    index_bytes = len(digest.crc32c()) + len(encode_maps(maps)["db0"].data)
    assert digest.stored_bytes + index_bytes + INDEX_BYTES // 2 + 2048 <= capacity_bytes
    assert found > capacity_bytes * 3 // 4

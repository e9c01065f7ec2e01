"""Random work on volumes, from a seed: the same seed gives the same steps for ever on every machine.

Sizes are spread evenly over their logarithm from 512 bytes to 1 MiB; half of the writes are unaligned; a third falls into one hot
region so that writes overlap; some data is zeros, or has blocks of zeros inside; some steps are discards.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from tests.support.reference import BLOCK, Image, Zero
from tests.support.reference import Write as WriteRecord

WRITE_MAX = 1 << 20
WRITE_MIN = 512


@dataclass(frozen=True)
class Write:
    volume: str
    offset_bytes: int
    data: bytes


@dataclass(frozen=True)
class Discard:
    volume: str
    offset_bytes: int
    length_bytes: int


@dataclass(frozen=True)
class Bookmark:
    name: str


Step = Write | Discard | Bookmark


class Trace:
    """An endless source of steps over some volumes.

    Args: seed: any int. volumes: name to size in bytes, each at least 1. write_max: largest write, in bytes.
    """

    def __init__(self, seed: int, volumes: dict[str, int], *, write_max: int = WRITE_MAX) -> None:
        self._random = random.Random(seed)
        self._volumes = volumes
        self._write_max = write_max

    def step(self) -> Write | Discard:
        """The next write or discard, inside its volume."""
        volume = self._random.choice(sorted(self._volumes))
        offset_bytes, length_bytes = self._range(self._volumes[volume])
        if self._random.random() < 0.08:
            return Discard(volume, offset_bytes, length_bytes)
        return Write(volume, offset_bytes, self._bytes(offset_bytes, length_bytes))

    def steps(self, bookmarks: int, between: int) -> Iterator[Step]:
        """``bookmarks`` rounds of ``between`` steps, a bookmark named b000, b001 … after each."""
        for number in range(bookmarks):
            for _ in range(between):
                yield self.step()
            yield Bookmark(f"b{number:03}")

    def _range(self, size_bytes: int) -> tuple[int, int]:
        """Offset and length of one step; whole blocks in half of the cases."""
        rng = self._random
        length_bytes = min(int(WRITE_MIN * (self._write_max / WRITE_MIN) ** rng.random()), size_bytes)
        reach = max(1, size_bytes // 8) if rng.random() < 0.3 else size_bytes
        offset_bytes = min(rng.randrange(reach), size_bytes - length_bytes)
        if rng.random() < 0.5 and size_bytes >= BLOCK:
            offset_bytes -= offset_bytes % BLOCK
            length_bytes = max(BLOCK, length_bytes - length_bytes % BLOCK)
        return offset_bytes, min(length_bytes, size_bytes - offset_bytes)

    def _bytes(self, offset_bytes: int, length_bytes: int) -> bytes:
        """Random bytes; all zeros in one case of ten, with some zeroed volume blocks in two of ten."""
        draw = self._random.random()
        if draw < 0.1:
            return bytes(length_bytes)
        data = bytearray(self._random.randbytes(length_bytes))
        if draw < 0.3:
            first = -(offset_bytes % BLOCK)
            for start in range(first, length_bytes, BLOCK):
                if self._random.random() < 0.3:
                    low, high = max(0, start), min(length_bytes, start + BLOCK)
                    data[low:high] = bytes(high - low)
        return bytes(data)


def play(image: Image, step: Write | Discard) -> None:
    """Do a step to a model of its volume."""
    if isinstance(step, Write):
        image.put(step.offset_bytes, step.data)
    else:
        image.zero(step.offset_bytes, step.length_bytes)


def record_of(step: Write | Discard, volume: int) -> WriteRecord | Zero:
    """The record that a step becomes when it is not split."""
    if isinstance(step, Write):
        return WriteRecord(volume, step.offset_bytes, step.data)
    return Zero(volume, step.offset_bytes, step.length_bytes)

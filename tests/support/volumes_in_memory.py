"""Volumes for archives, in memory: runs at chosen places, content from a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from vsnapfs.archive.extents import Span
from vsnapfs.archive.manifest import FORMAT, Manifest
from vsnapfs.core.model import Point

TIME_NS = 1_700_000_000_123_456_789
POINT = Point(seqno=77, time="2023-11-14T22:13:20.123456789Z", time_ns=TIME_NS, bookmark="monday")


class MemorySource:
    """A volume whose byte at an offset is a function of seed and offset; zeros where no run is."""

    id = 3
    block_bytes = 512
    mtime_ns = TIME_NS

    def __init__(
        self, name: str, size_bytes: int, spans: Sequence[tuple[int, int]], *, zeros: Sequence[tuple[int, int]] = (),
        changes: bool = False, seed: int = 1,
    ) -> None:  # fmt: skip
        self.name = name
        self.size_bytes = size_bytes
        self.changes = changes
        self._spans = sorted([Span(*span) for span in spans] + [Span(*span, zero=True) for span in zeros])
        self._pattern = random.Random(seed).randbytes(1021)

    def runs(self) -> Iterator[Span]:
        return iter(self._spans)

    def readinto(self, offset_bytes: int, buffer: memoryview) -> None:
        start = offset_bytes % len(self._pattern)
        repeated = self._pattern * (len(buffer) // len(self._pattern) + 2)
        buffer[:] = repeated[start : start + len(buffer)]

    def image(self) -> bytes:
        """The whole volume, as it is extracted."""
        content = bytearray(self.size_bytes)
        for span in self._spans:
            if not span.zero:
                self.readinto(span.offset_bytes, memoryview(content)[span.offset_bytes :][: span.length_bytes])
        return bytes(content)


def manifest_of(*, name: str = "monday", incremental: bool = False) -> Manifest:
    """Of an archive, without its volumes."""
    return Manifest(
        format=FORMAT,
        archive="5f3a3c1e-0000-4000-8000-00000000000a",
        repository="5f3a3c1e-0000-4000-8000-00000000000b",
        made="2023-11-15T00:00:00.000000000Z",
        kind="incremental" if incremental else "full",
        name=name,
        point=POINT,
        bookmark=None,
        since=POINT if incremental else None,
        parent=None,
        volumes=(),
    )

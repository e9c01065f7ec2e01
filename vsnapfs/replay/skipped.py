"""Which bytes of each volume were last written by what is left out: what a later write may have seen of it. Pure.

The map holds only what was left out: a write that is kept takes its bytes out of it. So it grows with what is skipped, not with
what is replayed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sortedcontainers import SortedDict

from vsnapfs.core.replay import ConflictKind

BLOCK_BYTES = 4096


class Extent(NamedTuple):
    """Bytes [start_bytes, end_bytes) that record ``seqno`` has put there."""

    start_bytes: int
    end_bytes: int
    seqno: int


class Seen(NamedTuple):
    """Bytes of a skipped record that a kept one went over, or beside."""

    extent: Extent
    kind: ConflictKind


class SkippedMap:
    """Of one volume. Not for several threads."""

    def __init__(self) -> None:
        self._ends: SortedDict[int, tuple[int, int]] = SortedDict()
        """(end, seqno) by start; disjoint."""

    @property
    def bytes(self) -> int:
        """How much of the volume was last written by what is left out."""
        return sum(end - start for start, (end, _) in self._ends.items())

    def skip(self, start_bytes: int, end_bytes: int, seqno: int) -> None:
        """A record that is left out put something there."""
        self._cut(start_bytes, end_bytes)
        self._ends[start_bytes] = (end_bytes, seqno)

    def keep(self, ranges: Sequence[tuple[int, int]]) -> list[Seen]:
        """A record that is kept writes there, in one piece of it. Returns: what it meets, first what it goes over."""
        if not self._ends:
            return []
        over = [extent for start, end in ranges for extent in self._in(start, end)]
        for start, end in ranges if over else ():
            self._cut(start, end)
        beside = dict.fromkeys(extent for low, high in _margins(ranges) for extent in self._in(low, high))
        return [*(Seen(extent, "over") for extent in over), *(Seen(extent, "beside") for extent in beside)]

    def _in(self, start_bytes: int, end_bytes: int) -> Iterator[Extent]:
        """What lies in a range, cut to it."""
        if start_bytes >= end_bytes:
            return
        index = max(0, self._ends.bisect_right(start_bytes) - 1)
        for start in self._ends.islice(index):
            if start >= end_bytes:
                return
            end, seqno = self._ends[start]
            if end > start_bytes:
                yield Extent(max(start, start_bytes), min(end, end_bytes), seqno)

    def _cut(self, start_bytes: int, end_bytes: int) -> None:
        """Take a range out."""
        index = max(0, self._ends.bisect_right(start_bytes) - 1)
        touched = []
        for start in self._ends.islice(index):
            if start >= end_bytes:
                break
            if self._ends[start][0] > start_bytes:
                touched.append(start)
        for start in touched:
            end, seqno = self._ends.pop(start)
            if start < start_bytes:
                self._ends[start] = (start_bytes, seqno)
            if end > end_bytes:
                self._ends[end_bytes] = (end, seqno)


def _margins(ranges: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """What is left of the blocks that ranges begin and end in."""
    for start, end in ranges:
        yield start - start % BLOCK_BYTES, start
        yield end, end + -end % BLOCK_BYTES

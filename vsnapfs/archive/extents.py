"""Runs of bytes of a volume, in order, kept in 16 bytes each: a busy volume has millions of them."""

from __future__ import annotations

import base64
import binascii
import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from vsnapfs.core.errors import IntegrityError

BLOCK_BYTES = 4096
"""What runs on tape are made of; only the end of a volume may be no multiple of it."""


class Span(NamedTuple):
    """A run of bytes, half-open. ``zero``: it reads as zeros, and is not stored."""

    offset_bytes: int
    length_bytes: int
    zero: bool = False


class Extents:
    """Runs that do not overlap, by offset, and where each lies in what is stored: one after the other.

    Concurrency: any thread may read once nothing is added any more.
    """

    def __init__(self, spans: Iterable[tuple[int, int]] = ()) -> None:
        self._offsets = array("Q")
        self._stored = array("Q")
        """Where each begins in what is stored."""
        self.stored_bytes = 0
        for offset_bytes, length_bytes in spans:
            self.add(offset_bytes, length_bytes)

    def add(self, offset_bytes: int, length_bytes: int) -> None:
        """Behind the last one, which it is joined with if they touch. Raises: ValueError: it is before its end, or empty."""
        if length_bytes <= 0 or offset_bytes < self.end_bytes:
            raise ValueError(f"a run of {length_bytes} bytes at {offset_bytes} behind {self.end_bytes}")
        if not self._offsets or offset_bytes > self.end_bytes:
            self._offsets.append(offset_bytes)
            self._stored.append(self.stored_bytes)
        self.stored_bytes += length_bytes

    @property
    def end_bytes(self) -> int:
        """Where the last run ends in the volume; 0: there is none."""
        return self._offsets[-1] + self.stored_bytes - self._stored[-1] if self._offsets else 0

    def __len__(self) -> int:
        return len(self._offsets)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Offset and length of each, in the volume."""
        return self._from(0)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Extents) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def _from(self, index: int) -> Iterator[tuple[int, int]]:
        for at in range(index, len(self._offsets)):
            end = self._stored[at + 1] if at + 1 < len(self._stored) else self.stored_bytes
            yield self._offsets[at], end - self._stored[at]

    def places(self, stored_offset: int, length_bytes: int) -> Iterator[tuple[int, int]]:
        """Where [stored_offset, + length_bytes) of what is stored lies in the volume: offset and length, in order."""
        if length_bytes <= 0:
            return
        first = bisect_right(self._stored, stored_offset) - 1
        skipped = stored_offset - self._stored[first]
        for offset_bytes, run_bytes in self._from(first):
            taken = min(run_bytes - skipped, length_bytes)
            yield offset_bytes + skipped, taken
            length_bytes -= taken
            skipped = 0
            if not length_bytes:
                return

    def encode(self) -> str:
        """Base64 of offset and length of each run, little-endian u64."""
        pairs = array("Q", [number for pair in self for number in pair])
        if sys.byteorder == "big":
            pairs.byteswap()
        return base64.b64encode(pairs.tobytes()).decode("ascii")

    @classmethod
    def decode(cls, text: str) -> Extents:
        """The runs of ``encode``. Raises: IntegrityError: it is none."""
        pairs = array("Q")
        try:
            pairs.frombytes(base64.b64decode(text, validate=True))
            if sys.byteorder == "big":
                pairs.byteswap()
            return cls(zip(pairs[::2], pairs[1::2], strict=True))
        except (binascii.Error, ValueError) as error:
            raise IntegrityError(f"a map on the tape is none: {error}") from error


def in_blocks(spans: Iterable[Span], size_bytes: int) -> Iterator[Span]:
    """Runs in whole blocks of ``BLOCK_BYTES``, neighbours of one kind joined.

    A block of which anything is data is data as a whole, and one that is zero in part only is data too, since what else it holds
    is not said. Args: spans: by offset, not overlapping. size_bytes: of the volume: a last block may end there.
    """
    held: Span | None = None
    for span in _rounded(spans, size_bytes):
        if held is None:
            held = span
        elif span.offset_bytes <= _end(held) and span.zero == held.zero:
            held = Span(held.offset_bytes, max(_end(span), _end(held)) - held.offset_bytes, held.zero)
        else:
            yield held
            held = _behind(span, _end(held))
    if held is not None:
        yield held


def _rounded(spans: Iterable[Span], size_bytes: int) -> Iterator[Span]:
    """Each as blocks: data that it touches, zeros that it covers. Data is never hidden by zeros of the same block."""
    done = 0
    for span in spans:
        first = span.offset_bytes // BLOCK_BYTES * BLOCK_BYTES
        end = min(-(-_end(span) // BLOCK_BYTES) * BLOCK_BYTES, size_bytes)
        for part in _parts(span, first, end) if span.zero else (Span(first, end - first),):
            if _end(part) > done:
                yield _behind(part, done)
                done = _end(part)


def _parts(span: Span, first: int, end: int) -> Iterator[Span]:
    """A run of zeros as the block that it begins within, whole ones, and the block that it ends within."""
    whole_from = first if span.offset_bytes == first else min(first + BLOCK_BYTES, end)
    whole_to = end if _end(span) >= end else _end(span) // BLOCK_BYTES * BLOCK_BYTES
    if whole_from >= whole_to:
        yield Span(first, end - first)
        return
    if first < whole_from:
        yield Span(first, whole_from - first)
    yield Span(whole_from, whole_to - whole_from, zero=True)
    if whole_to < end:
        yield Span(whole_to, end - whole_to)


def _behind(span: Span, offset_bytes: int) -> Span:
    """What of a run lies at or behind an offset."""
    start = max(span.offset_bytes, offset_bytes)
    return Span(start, _end(span) - start, span.zero)


def _end(span: Span) -> int:
    return span.offset_bytes + span.length_bytes

"""Bring something to the content of something else: only blocks that differ are written.

What import, restore and promotion have in common. A source and a target are compared piece by piece, over the spans in which they can
differ; what differs is written; and every now and then what was written is brought to stable storage, read back from there
and compared with the source once more. What lies before such a settled offset is done for good, so whoever was killed
may go on from there, and whoever begins anew writes only what still differs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from vsnapfs.core.errors import VsnapfsError
from vsnapfs.repository.sparse import BLOCK_BYTES, PIECE_BYTES, Span, union

SETTLE_BYTES = 32 << 20
"""So much is written between two settlements."""
LOOK_BYTES = 1 << 30
"""And so much is compared."""
ZEROS = bytes(BLOCK_BYTES)


class Source(Protocol):
    """What shall be."""

    @property
    def size_bytes(self) -> int: ...
    def spans(self) -> Iterator[Span]:
        """Where it may hold something else than zeros."""

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        """All of it, verified if it can be. Raises: VsnapfsError."""


class Target(Protocol):
    """What shall become it. Of one size with its source. Errors are VsnapfsError."""

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        """What it held before."""

    def write(self, offset_bytes: int, content: bytes) -> None: ...
    def zero(self, offset_bytes: int, length_bytes: int) -> None: ...
    def settle(self) -> None:
        """Bring what was written to stable storage."""

    def read_back(self, offset_bytes: int, length_bytes: int) -> bytes:
        """What stable storage has, after ``settle``."""

    def mismatch(self, offset_bytes: int) -> VsnapfsError:
        """The error for a byte that was not read back as it was written."""


class Watch(Protocol):
    """Who is told of the way. An exception of theirs ends it."""

    def at(self, done: int) -> None:
        """The end of each piece, as an offset."""

    def settled(self, done: int) -> None:
        """All before this offset is done for good."""


class Difference(NamedTuple):
    """Whole blocks [start, end) of a piece."""

    start: int
    end: int
    zero: bool


def bring(source: Source, target: Target, spans: Iterable[Span], watch: Watch, *, verify: bool) -> int:
    """Make the target like the source within ``spans`` (whole blocks, ascending); outside of them they are alike.

    verify: read back and compare what was written. Returns the bytes written; all are settled. An error leaves a target of which a
    part is done.
    """
    batch = _Batch(source, target, verify)
    looked = 0
    for span in spans:
        for at in range(span.start_bytes, span.end_bytes, PIECE_BYTES):
            length = min(PIECE_BYTES, span.end_bytes - at)
            batch.take(at, length)
            looked += length
            if batch.bytes >= SETTLE_BYTES or looked >= LOOK_BYTES:
                batch.settle()
                watch.settled(at + length)
                looked = 0
            watch.at(at + length)
    batch.settle()
    return batch.total_bytes


def everything(source: Source, held: Iterable[Span]) -> Iterator[Span]:
    """Where source and target can differ if nobody knows more: where either holds data. held: by the target."""
    return union(source.spans(), held, source.size_bytes)


def differences(new: bytes, old: bytes) -> Iterator[Difference]:
    """Runs of whole blocks of ``new`` that are not those of ``old``; both are of one length."""
    if new == old:
        return
    start, end, zero = 0, 0, False
    for at in range(0, len(new), BLOCK_BYTES):
        block = new[at : at + BLOCK_BYTES]
        if block == old[at : at + BLOCK_BYTES]:
            continue
        is_zero = block == ZEROS[: len(block)]
        if at == end and is_zero == zero and end > start:
            end = at + len(block)
            continue
        if end > start:
            yield Difference(start, end, zero)
        start, end, zero = at, at + len(block), is_zero
    yield Difference(start, end, zero)


class _Batch:
    """What was written since the last settlement."""

    def __init__(self, source: Source, target: Target, verify: bool) -> None:
        self._source, self._target, self._verify = source, target, verify
        self._spans: list[Span] = []
        self.bytes = 0
        self.total_bytes = 0

    def take(self, offset_bytes: int, length_bytes: int) -> None:
        """Compare a piece, and write what differs."""
        new = self._source.read(offset_bytes, length_bytes)
        for start, end, zero in differences(new, self._target.read(offset_bytes, length_bytes)):
            if zero:
                self._target.zero(offset_bytes + start, end - start)
            else:
                self._target.write(offset_bytes + start, new[start:end])
            self._add(Span(offset_bytes + start, offset_bytes + end))

    def _add(self, span: Span) -> None:
        self.bytes += span.end_bytes - span.start_bytes
        if self._spans and self._spans[-1].end_bytes == span.start_bytes:
            span = Span(self._spans.pop().start_bytes, span.end_bytes)
        self._spans.append(span)

    def settle(self) -> None:
        """All of it is on stable storage, and was found there."""
        if not self._spans:
            return
        self._target.settle()
        if self._verify:
            for span in self._spans:
                for at in range(span.start_bytes, span.end_bytes, PIECE_BYTES):
                    self._compare(at, min(PIECE_BYTES, span.end_bytes - at))
        self.total_bytes += self.bytes
        self._spans, self.bytes = [], 0

    def _compare(self, offset_bytes: int, length_bytes: int) -> None:
        wanted = self._source.read(offset_bytes, length_bytes)
        found = self._target.read_back(offset_bytes, length_bytes)
        if found != wanted:
            place = next(
                (i for i, pair in enumerate(zip(wanted, found, strict=False)) if pair[0] != pair[1]), len(found)
            )
            raise self._target.mismatch(offset_bytes + place)

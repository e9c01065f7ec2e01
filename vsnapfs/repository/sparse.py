"""Where a file holds data: extents from SEEK_DATA and SEEK_HOLE, and arithmetic on them.

All are half-open and ascend.
"""

from __future__ import annotations

import errno
import heapq
import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

BLOCK_BYTES = 4096
PIECE_BYTES = 1 << 20


class Span(NamedTuple):
    """Bytes [start_bytes, end_bytes)."""

    start_bytes: int
    end_bytes: int


class Piece(NamedTuple):
    """A part of a whole file, at most ``PIECE_BYTES`` when it has data."""

    offset_bytes: int
    length_bytes: int
    has_data: bool


def data_spans(fd: int, size_bytes: int) -> Iterator[Span]:
    """Where the first ``size_bytes`` of a file may hold something else than zeros.

    What cannot tell (a block device) is all data.

    Raises: OSError: the file cannot be sought in.
    """
    at = 0
    while at < size_bytes:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
            end = os.lseek(fd, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                raise
            start, end = at, size_bytes
        if start >= size_bytes:
            return
        yield Span(start, min(end, size_bytes))
        at = end


def read_up_to(fd: int, length_bytes: int, offset_bytes: int) -> bytes:
    """Part of a file; less only at its end. A read ends before what cannot be had, too: what comes next says which of both it was.

    Raises: OSError.
    """
    content = b""
    while len(content) < length_bytes:
        more = os.pread(fd, length_bytes - len(content), offset_bytes + len(content))
        if not more:
            break
        content += more
    return content


def union(first: Iterable[Span], second: Iterable[Span], size_bytes: int) -> Iterator[Span]:
    """What either has, widened to whole blocks, joined where it touches."""
    whole: Span | None = None
    for span in heapq.merge(first, second):
        start = span.start_bytes // BLOCK_BYTES * BLOCK_BYTES
        end = min(size_bytes, -(-span.end_bytes // BLOCK_BYTES) * BLOCK_BYTES)
        if whole is None or start > whole.end_bytes:
            if whole is not None:
                yield whole
            whole = Span(start, end)
        else:
            whole = Span(whole.start_bytes, max(whole.end_bytes, end))
    if whole is not None:
        yield whole


def from_offset(spans: Iterable[Span], offset_bytes: int) -> Iterator[Span]:
    """What of them lies at or behind an offset."""
    for span in spans:
        if span.end_bytes > offset_bytes:
            yield Span(max(span.start_bytes, offset_bytes), span.end_bytes)


def pieces(spans: Iterable[Span], size_bytes: int) -> Iterator[Piece]:
    """A whole file of ``size_bytes`` as pieces: the data of ``spans`` (whole blocks) in small ones, what is between
    as it is.
    """
    at = 0
    for span in spans:
        if at < span.start_bytes:
            yield Piece(at, span.start_bytes - at, False)
        for start in range(span.start_bytes, span.end_bytes, PIECE_BYTES):
            yield Piece(start, min(PIECE_BYTES, span.end_bytes - start), True)
        at = span.end_bytes
    if at < size_bytes:
        yield Piece(at, size_bytes - at, False)

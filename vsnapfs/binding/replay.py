"""The records between two points, again.

Source: native/include/replay.h.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from vsnapfs.binding._native import ffi, lib
from vsnapfs.binding.closing import Closing
from vsnapfs.binding.faults import check
from vsnapfs.binding.journal import Journal

ROWS_PER_CALL = 4096
BLOCK_BYTES = int(lib.VS_BLOCK)


class ReplayPiece(NamedTuple):
    """A run of data, or of zeros, that one record put into a volume; ``block`` and ``segment`` say where its data lies."""

    seqno: int
    time_ns: int
    volume: int
    offset_bytes: int
    length_bytes: int
    block: int
    """0: zeros."""
    segment: int

    @property
    def end_bytes(self) -> int:
        return self.offset_bytes + self.length_bytes

    def part(self, offset_bytes: int, end_bytes: int) -> ReplayPiece:
        """What of it lies in a range within it."""
        moved = offset_bytes // BLOCK_BYTES - self.offset_bytes // BLOCK_BYTES
        return self._replace(
            offset_bytes=offset_bytes,
            length_bytes=end_bytes - offset_bytes,
            block=self.block + moved if self.block else 0,
        )


class Replay(Closing):
    """The records after ``since``, up to ``until``. One thread at a time. Borrows the journal, which outlives it."""

    def __init__(self, journal: Journal, since: int, until: int) -> None:
        """Raises: PointGoneError: ``until`` is not committed, or of a part of them only bookmarks are left."""
        out = ffi.new("vs_replay **")
        check(lib.vs_replay_open(journal.c, since, until, out), f"read the writes from @{since + 1} to @{until}")
        self._c: Any = out[0]
        self._since = since

    def pieces(self) -> Iterator[list[ReplayPiece]]:
        """All pieces in order, some at a time, whole records only. Raises: IntegrityError."""
        rows, after = ffi.new("vs_replay_row[]", ROWS_PER_CALL), self._since
        while n := check(lib.vs_replay_rows(self._c, after, rows, ROWS_PER_CALL), "read the journal"):
            yield [
                ReplayPiece(r.seqno, r.time_ns, r.volume, r.offset_bytes, r.length_bytes, r.block, r.segment)
                for r in rows[0:n]
            ]
            after = rows[n - 1].seqno

    def apply(self, pieces: Sequence[ReplayPiece], fd: int) -> None:
        """Write pieces of one volume to an open file, in their order, each block compared with its checksum before. Nothing is synced.

        Raises: CorruptExtentError: a block does not match. NoSpaceError, StoreError: what the file says. A part may be written then.
        """
        rows = ffi.new("vs_replay_row[]", len(pieces))
        for row, piece in zip(rows, pieces, strict=True):
            row.seqno, row.time_ns, row.volume = piece.seqno, piece.time_ns, piece.volume
            row.offset_bytes, row.length_bytes = piece.offset_bytes, piece.length_bytes
            row.block, row.segment = piece.block, piece.segment
        check(lib.vs_replay_apply(self._c, rows, len(pieces), fd), "write the records again")

    def close(self) -> None:
        """Free it. Twice is allowed."""
        if self._c is not None:
            lib.vs_replay_close(self._c)
            self._c = None

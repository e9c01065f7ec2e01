"""What a replay comes to, before anything of it is written: how much of each volume, and which kept writes meet what is left out. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol, Self, TypeVar

from vsnapfs.core.replay import ConflictKind
from vsnapfs.replay.choice import Choice
from vsnapfs.replay.skipped import SkippedMap

CONFLICTS_MAX = 100_000
"""So many are told one by one; all are counted."""
TORN_MAX = 10
AT_ONCE_NS = 10_000_000
"""The kernel hands on the parts of a write within a moment."""


class Piece(Protocol):
    """A run of bytes that one record put into a volume; ``binding.ReplayPiece`` is one."""

    @property
    def seqno(self) -> int: ...
    @property
    def time_ns(self) -> int: ...
    @property
    def volume(self) -> int: ...
    @property
    def offset_bytes(self) -> int: ...
    @property
    def length_bytes(self) -> int: ...


class Meeting(NamedTuple):
    """A conflict; ``volume`` is an id."""

    kept_seqno: int
    skipped_seqno: int
    volume: int
    start_bytes: int
    end_bytes: int
    kind: ConflictKind


class Torn(NamedTuple):
    """Two neighbouring records of which one is kept, that lie side by side and were made at once: perhaps one write of an application."""

    kept_seqno: int
    skipped_seqno: int
    volume: int


class Last(NamedTuple):
    """What came before: bytes up to ``end_bytes``."""

    seqno: int
    time_ns: int
    volume: int
    end_bytes: int
    kept: bool


class VolumePlan:
    """What is done to one volume."""

    def __init__(self) -> None:
        self.applied_bytes = 0
        self.skipped_bytes = 0
        self.end_bytes = 0
        """Nothing is written behind it."""
        self.end_seqno = 0
        """By the record that reaches there first."""
        self.skipped = SkippedMap()


class Plan:
    """Of a choice among records, which are given to ``take`` in their order, each piece once."""

    def __init__(self, choice: Choice) -> None:
        self._choice = choice
        self.volumes: dict[int, VolumePlan] = {}
        """Of those that anything was done to, by id."""
        self.applied_records = 0
        self.skipped_records = 0
        self.split_records = 0
        self.conflicts: list[Meeting] = []
        self.counts: dict[ConflictKind, int] = {"over": 0, "beside": 0}
        self.torn: list[Torn] = []
        """The first of them."""
        self._last = Last(0, 0, 0, 0, True)
        self._seqno = 0
        self._kept = self._left = False

    @property
    def applied_bytes(self) -> int:
        return sum(volume.applied_bytes for volume in self.volumes.values())

    @property
    def skipped_bytes(self) -> int:
        return sum(volume.skipped_bytes for volume in self.volumes.values())

    def take(self, pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            if piece.seqno != self._seqno:
                self._end_record()
                self._seqno = piece.seqno
            self._take(piece)

    def end(self) -> None:
        """There are no more records."""
        self._end_record()
        self._seqno = 0

    def _take(self, piece: Piece) -> None:
        volume = self.volumes.get(piece.volume)
        if volume is None:
            volume = self.volumes[piece.volume] = VolumePlan()
        end_bytes = piece.offset_bytes + piece.length_bytes
        parts = list(self._choice.parts(piece.seqno, piece.time_ns, piece.volume, piece.offset_bytes, end_bytes))
        kept = [(part.start_bytes, part.end_bytes) for part in parts if part.kept]
        self._look_beside(piece, kept=bool(kept))
        if kept:
            self._keep(volume, piece, kept)
        for part in parts:  # after those that are kept: they are no conflict with themselves
            if not part.kept:
                self._left = True
                volume.skipped_bytes += part.end_bytes - part.start_bytes
                volume.skipped.skip(part.start_bytes, part.end_bytes, piece.seqno)

    def _look_beside(self, piece: Piece, *, kept: bool) -> None:
        last = self._last
        follows = piece.seqno == last.seqno + 1 and piece.volume == last.volume and piece.offset_bytes == last.end_bytes
        if follows and kept != last.kept and piece.time_ns - last.time_ns < AT_ONCE_NS and len(self.torn) < TORN_MAX:
            first, second = (piece.seqno, last.seqno) if kept else (last.seqno, piece.seqno)
            self.torn.append(Torn(first, second, piece.volume))
        self._last = Last(piece.seqno, piece.time_ns, piece.volume, piece.offset_bytes + piece.length_bytes, kept)

    def _keep(self, volume: VolumePlan, piece: Piece, ranges: Sequence[tuple[int, int]]) -> None:
        self._kept = True
        volume.applied_bytes += sum(end - start for start, end in ranges)
        end_bytes = ranges[-1][1]
        if end_bytes > volume.end_bytes:
            volume.end_bytes, volume.end_seqno = end_bytes, piece.seqno
        for extent, kind in volume.skipped.keep(ranges):
            self.counts[kind] += 1
            if len(self.conflicts) < CONFLICTS_MAX:
                meeting = Meeting(piece.seqno, extent.seqno, piece.volume, extent.start_bytes, extent.end_bytes, kind)
                self.conflicts.append(meeting)

    def _end_record(self) -> None:
        self.applied_records += self._kept
        self.skipped_records += self._left and not self._kept
        self.split_records += self._left and self._kept
        self._kept = self._left = False


class Cut(Piece, Protocol):
    """A piece of which a part can be had."""

    def part(self, offset_bytes: int, end_bytes: int) -> Self: ...


P = TypeVar("P", bound=Cut)


def kept_runs(choice: Choice, pieces: Sequence[P]) -> Iterator[list[P]]:
    """What is kept of some pieces, in order, in runs of one volume each."""
    run: list[P] = []
    for piece in pieces:
        end_bytes = piece.offset_bytes + piece.length_bytes
        for part in choice.parts(piece.seqno, piece.time_ns, piece.volume, piece.offset_bytes, end_bytes):
            if not part.kept:
                continue
            if run and run[-1].volume != piece.volume:
                yield run
                run = []
            run.append(piece.part(part.start_bytes, part.end_bytes))
    if run:
        yield run

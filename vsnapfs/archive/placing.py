"""Where the pieces of an archive are: by their indexes, and of those whose index cannot be read by what stands beside them.

Pure. Source: docs/recall.md, section on damage.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from vsnapfs.archive.inventory import Inventory
from vsnapfs.core.tapes import ArchiveEntry, PieceEntry, TapeEntry

GAP_MAX = 10_000
"""Pieces that are missing one after the other and are named each."""


class Placed(NamedTuple):
    """A piece of an archive. ``entry`` None: it is on none of the tapes that were looked at."""

    number: int
    entry: PieceEntry | None
    tape: TapeEntry | None
    label: str
    """Of the tape that it is on, or was written on; "": nobody knows."""


class Step(NamedTuple):
    """One archive of a chain."""

    archive: ArchiveEntry
    pieces: tuple[Placed, ...]
    is_whole: bool
    """False: nobody knows where its last piece is, or whether there is one."""

    @property
    def missing(self) -> list[Placed]:
        return [piece for piece in self.pieces if piece.entry is None]


def step_of(known: Inventory, archive: ArchiveEntry) -> Step:
    """An archive of a chain, with its pieces."""
    entries = {piece.number: piece for piece in known.pieces_of(archive.uuid)}
    last = known.totals.get(archive.uuid, max(entries, default=-1) + 1) - 1
    for number in _numbers(entries, last):
        if number not in entries and (guessed := _unindexed(known, archive.uuid, number, entries)) is not None:
            entries[number] = guessed
    is_whole = archive.uuid in known.totals
    while archive.uuid not in known.totals:
        behind = _unindexed(known, archive.uuid, last + 1, entries) or _loose(known, archive, last + 1, entries)
        if behind is None:
            break
        entries[last + 1] = behind
        last, is_whole = last + 1, True
    alone = not is_whole and last == 0 and 0 in entries and not entries[0].index_bytes
    placed = tuple(_placed(known, archive.uuid, number, entries) for number in _numbers(entries, last))
    return Step(archive, placed, is_whole or alone)


def _numbers(entries: Iterable[int], last: int) -> Iterator[int]:
    """Those of pieces that are there, and of pieces that are not: of a long gap, which a single index may claim, its two ends."""
    at = 0
    for number in (*sorted(each for each in entries if each <= last), last + 1):
        gap = range(at, number)
        yield from gap[:GAP_MAX]
        if len(gap) > GAP_MAX:
            yield gap[-1]
        if number <= last:
            yield number
        at = number + 1


def _placed(known: Inventory, archive: str, number: int, entries: dict[int, PieceEntry]) -> Placed:
    entry = entries.get(number)
    if entry is not None:
        tape = known.tapes[entry.tape_uuid]
        return Placed(number, entry, tape, tape.label)
    named = known.before.get((archive, number))
    return Placed(number, None, None, "" if named is None else named.tape)


def _unindexed(known: Inventory, archive: str, number: int, entries: dict[int, PieceEntry]) -> PieceEntry | None:
    """A piece that counted and has no index that can be read: where the one behind it says, or right behind the one before, or right
    before."""
    named, before, behind = known.before.get((archive, number)), entries.get(number - 1), entries.get(number + 1)
    places = [
        None if named is None else (named.tape_uuid, named.file),
        None if before is None else (before.tape_uuid, before.file + 2),
        None if behind is None else (behind.tape_uuid, behind.file - 2),
    ]
    counted = [
        place
        for place, is_named in zip(places, (True, False, False), strict=True)
        if place is not None and known.unindexed.get(place, False) | (is_named and place in known.unindexed)
    ]
    if not counted:
        return None
    known_before = before is not None and before.stream_bytes > 0
    start = 0 if number == 0 else before.stream_offset + before.stream_bytes if before and known_before else -1
    length = 0 if behind is None or start < 0 else behind.stream_offset - start
    return _entry(archive, number, counted[0], start, length, "" if named is None else named.sha256)


def _loose(known: Inventory, archive: ArchiveEntry, number: int, entries: dict[int, PieceEntry]) -> PieceEntry | None:
    """A piece that counted, stands beside no other one of its archive, such as the first of a tape, and begins with a member of that.
    Where it belongs it says itself."""
    taken = {(piece.tape_uuid, piece.file) for piece in entries.values()}
    name = archive.point.bookmark or f"@{archive.point.seqno}"
    for place, directory in known.loose.items():
        if directory == name and known.unindexed.get(place, False) and place not in taken:
            return _entry(archive.uuid, number, place, -1, 0, "")
    return None


def _entry(
    archive: str, number: int, place: tuple[str, int], stream_offset: int, stream_bytes: int, sha256: str
) -> PieceEntry:
    """Of a piece that has no index that can be read."""
    return PieceEntry(
        archive=archive,
        number=number,
        tape_uuid=place[0],
        file=place[1],
        stream_offset=stream_offset,
        stream_bytes=stream_bytes,
        stored_bytes=0,
        index_bytes=0,
        sha256=sha256,
    )

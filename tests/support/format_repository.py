"""A whole repository, read by the words of native/FORMAT.md alone: which points can be opened, and what volumes are at them.

It goes on where format_reader, which reads one file, ends, and knows nothing of the C core, the catalog or the merged maps: files
that count, events, section 5 and *until* say what can be opened; a base and the records behind it, one after the other, are a volume.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any
from uuid import UUID

from tests.support.format_reader import (
    BLOCK,
    BOOKMARK_ADD,
    BOOKMARK_REMOVE,
    FLOOR,
    GAP_BEGIN,
    GAP_END,
    VOLUME_ADD,
    VOLUME_REMOVE,
    VOLUME_RESIZE,
    Base,
    FormatError,
    Piece,
    Record,
    Segment,
    crc32c,
    read_base,
    read_journal,
)

FEATURES = {"gaps", "compaction", "branches"}


@dataclass
class Shown:
    """A volume at a point."""

    name: str
    size_bytes: int
    last_write_seqno: int
    last_write_ns: int
    content: bytearray
    held: bytearray
    """A 1 for each byte that is data, so that what is zeros since nobody wrote it is told from what is zeros."""

    @property
    def data_bytes(self) -> int:
        return sum(self.held)

    def put(self, piece: Piece, payload: bytes) -> None:
        end = min(piece.offset_bytes + piece.length_bytes, self.size_bytes)
        length = max(0, end - piece.offset_bytes)
        self.content[piece.offset_bytes : end] = payload[:length]
        self.held[piece.offset_bytes : end] = bytes([piece.block > 0]) * length

    def resize(self, size_bytes: int) -> None:
        for part in (self.content, self.held):
            part[:] = part[:size_bytes] + bytes(max(0, size_bytes - self.size_bytes))
        self.size_bytes = size_bytes


@dataclass
class Repository:
    path: Path
    uuid: bytes
    features: list[str]
    segments: list[Segment] = field(default_factory=list)

    @property
    def last_seqno(self) -> int:
        return self.segments[-1].last_seqno

    @property
    def floor(self) -> int:
        """The oldest point that can be opened; 0: none was ever set."""
        sealed = [segment.footer.floor_seqno for segment in self.segments if segment.footer]
        unsealed = self.segments[-1].records if self.segments[-1].footer is None else []
        return max([0, *sealed[-1:], *(record.a for record in unsealed if record.kind == FLOOR)])

    def records(self, until: int) -> Iterator[tuple[Segment, Record]]:
        for segment in self.segments:
            yield from ((segment, record) for record in takewhile(lambda r: r.seqno <= until, segment.records))

    def bookmarks(self) -> dict[str, int]:
        """What stands, by name: the seqno that it names."""
        found: dict[str, int] = {}
        for _, record in self.records(self.last_seqno):
            if record.kind == BOOKMARK_ADD and not _body(record).get("pending"):
                found[_body(record)["name"]] = record.a
            elif record.kind == BOOKMARK_REMOVE:
                found.pop(_body(record)["name"], None)  # what had added it may have been left out
        return found

    def can_open(self, seqno: int) -> bool:
        """Section 2.5, *What can be opened*; the floor and gaps, section 2.2."""
        if not max(1, self.floor) <= seqno <= self.last_seqno:
            return False
        if any(first < seqno < end for first, end in self._gaps()):
            return False
        for segment in self.segments:
            compacted = segment.compacted
            if compacted and segment.first_seqno <= seqno <= segment.last_seqno:
                if seqno not in dict(segment.points):
                    return False
            elif compacted and segment.last_seqno < seqno < compacted.until_seqno:
                return False
        return True

    def _gaps(self) -> Iterator[tuple[int, int]]:
        """(last record before it, the one that ends it)"""
        begun = None
        for _, record in self.records(self.last_seqno):
            if record.kind == GAP_BEGIN and begun is None:
                begun = record.b
            elif record.kind == GAP_END and begun is not None:
                yield begun, record.seqno
                begun = None
        if begun is not None:
            yield begun, self.last_seqno + 1

    def volumes(self, seqno: int) -> dict[str, Shown]:
        """All that stand at a point, which can be opened."""
        found: dict[int, Shown] = {}
        behind: dict[int, int] = {}  # what a base stands for is not looked at again
        for segment, record in self.records(seqno):
            if record.kind == VOLUME_ADD:
                found[record.volume], behind[record.volume] = self._begin(record, seqno)
            elif record.kind == VOLUME_REMOVE:
                del found[record.volume]
            elif (shown := found.get(record.volume)) and record.seqno > behind[record.volume]:
                _play(shown, segment, record)
        return {shown.name: shown for shown in found.values()}

    def _begin(self, added: Record, seqno: int) -> tuple[Shown, int]:
        """A volume as its base has it, and the last record that the base has."""
        base = self._base(added, seqno)
        size_bytes, last_write = added.b, (added.seqno, added.time_ns)
        if base is not None and base.seqno:
            size_bytes, last_write = base.size_bytes, (base.last_write_seqno, base.last_write_ns)
        shown = Shown(_body(added)["name"], size_bytes, *last_write, bytearray(size_bytes), bytearray(size_bytes))
        if base is not None:
            self._fill(shown, base)
        return shown, base.seqno if base else 0

    def _base(self, added: Record, seqno: int) -> Base | None:
        index = self.path / f"base/{added.volume:08x}.idx"
        needed = max((segment.compacted.base_floor for segment in self.segments if segment.compacted), default=0)
        base = read_base(index.read_bytes(), self.uuid) if index.exists() else None
        if added.seqno <= needed and (base is None or base.seqno < needed) and self._stands(added.volume, seqno):
            raise FormatError(f"volume {added.volume} needs a base of @{needed}")
        return base

    def _stands(self, volume: int, seqno: int) -> bool:
        return all(r.volume != volume or r.kind != VOLUME_REMOVE for _, r in self.records(seqno))

    def _fill(self, shown: Shown, base: Base) -> None:
        """The runs of the base's map, each block compared with its checksum."""
        image = self.path / f"base/{base.volume:08x}.img"
        raw = image.read_bytes() if base.rows else b""
        for offset, length, *_ in base.rows:
            for block in range(offset // BLOCK, (offset + length + BLOCK - 1) // BLOCK):
                content = base.patches.get(block, raw[block * BLOCK : (block + 1) * BLOCK]).ljust(BLOCK, b"\0")
                if crc32c(content) != base.checksums[block]:
                    raise FormatError(f"block {block} of {image.name}")
                start, end = max(offset, block * BLOCK), min(offset + length, (block + 1) * BLOCK)
                shown.put(Piece(start, end - start, 1), content[start % BLOCK :])


def _body(record: Record) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(record.tail)
    return body


def _play(shown: Shown, segment: Segment, record: Record) -> None:
    if record.kind == VOLUME_RESIZE:
        shown.resize(record.b)
    for piece in record.pieces:
        shown.put(piece, segment.payload(piece))
    if record.pieces or record.kind == VOLUME_RESIZE:
        shown.last_write_seqno, shown.last_write_ns = record.seqno, record.time_ns


def read_repository(path: Path) -> Repository:
    """Raises: FormatError: something is not as the page says."""
    told = json.loads((path / "repository.json").read_text())
    if told["format"] != 1 or not set(told["features"]) <= FEATURES:
        raise FormatError(f"{path} is of an unknown format")
    found = Repository(path, UUID(told["uuid"]).bytes, told["features"])
    found.segments = list(read_journal(path))
    if any(segment.uuid != found.uuid for segment in found.segments):
        raise FormatError(f"{path} has a segment of another repository")
    if "compaction" not in found.features and (found.floor or any(segment.compacted for segment in found.segments)):
        raise FormatError(f"{path} has what its features do not tell of")
    _check_generation(found)
    return found


def _check_generation(repository: Repository) -> None:
    """The file only says what the names do."""
    file = repository.path / "journal/generation"
    greatest = max(segment.compacted.generation if segment.compacted else 0 for segment in repository.segments)
    if file.exists():
        content = file.read_bytes()
        expected = greatest.to_bytes(8, "little")
        if content != expected + crc32c(expected).to_bytes(4, "little") + bytes(4):
            raise FormatError("journal/generation")

"""A second reader of every file in native/FORMAT.md, written from that page alone.

It shares no code with the C core and takes no shortcut through footers: ``read_segment`` gives what the batches say and, beside it, what
the footer claims, so that a test can compare both. Everything is checked; what does not fit raises FormatError with the place.
It is slow (the CRC is a table in Python) and meant for small repositories.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

BLOCK = 4096
DESCRIPTOR_HEAD = 52
RECORD_HEAD = 36
WRITE, ZERO, VOLUME_ADD, VOLUME_RESIZE, VOLUME_REMOVE, BOOKMARK_ADD, BOOKMARK_REMOVE, BOOKMARK_HOLD = range(1, 9)
GAP_BEGIN, GAP_END, GO_TO, POINT, STATE, FLOOR = 9, 10, 11, 12, 13, 14
FURTHER, SIZE_ALONE = 2, 4
UNKNOWN = 2**64 - 1


class FormatError(Exception):
    """A file is not as native/FORMAT.md says."""


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_CRC_TABLE = _crc_table()


def crc32c(content: bytes) -> int:
    """CRC32C of some bytes."""
    value = 0xFFFFFFFF
    for byte in content:
        value = value >> 8 ^ _CRC_TABLE[(value ^ byte) & 255]
    return value ^ 0xFFFFFFFF


ZERO_BLOCK_CRC = crc32c(bytes(BLOCK))


def _u32(content: bytes, at: int) -> int:
    return int.from_bytes(content[at : at + 4], "little")


def _u64(content: bytes, at: int) -> int:
    return int.from_bytes(content[at : at + 8], "little")


def _need(true: bool, what: str, at: int) -> None:
    if not true:
        raise FormatError(f"{what} at byte {at}")


def _check_block(content: bytes, at: int, what: str) -> bytes:
    """A block that ends in its own CRC."""
    block = content[at : at + BLOCK]
    _need(len(block) == BLOCK, f"{what} is cut off", at)
    _need(_u32(block, 4092) == crc32c(block[:4092]), f"CRC of {what}", at)
    return block


@dataclass(frozen=True)
class Piece:
    """A run of a record: block is that of the segment that holds the first byte, 0 for zeros."""

    offset_bytes: int
    length_bytes: int
    block: int


@dataclass(frozen=True)
class Record:
    seqno: int
    kind: int
    volume: int
    time_ns: int
    a: int
    b: int
    tail: bytes
    stream: bytes
    """The record as it stands in the stream, padding included."""
    pieces: tuple[Piece, ...] = ()


@dataclass
class Batch:
    position: int
    descriptors: int
    payload_blocks: int
    applied_seqno: int
    records: list[Record] = field(default_factory=list)


@dataclass(frozen=True)
class VolumeRow:
    """Section 4 of the footer, one volume."""

    volume: int
    removed: int
    size_bytes: int
    added_seqno: int
    last_write_seqno: int
    last_write_ns: int
    data_bytes: int


@dataclass(frozen=True)
class Footer:
    """What a sealed segment says of itself."""

    last_seqno: int
    last_time_ns: int
    applied_seqno: int
    previous_digest: bytes
    digest: bytes
    rows: list[tuple[int, ...]]
    maps: dict[int, list[tuple[int, ...]]]
    checksums: list[int]
    events: list[tuple[int, bytes]]
    volumes: list[VolumeRow]
    sections: list[tuple[int, int]]
    floor_seqno: int
    chain_digest: bytes
    """What the next segment has to name."""
    points: list[tuple[int, int]]


@dataclass(frozen=True)
class Compacted:
    """What a compacted segment's header and trailer say alike (section 2.5)."""

    generation: int
    ordinals: int
    base_floor: int
    until_seqno: int


@dataclass
class Segment:
    content: bytes
    uuid: bytes
    ordinal: int
    first_seqno: int
    created_ns: int
    time_before_ns: int
    previous_digest: bytes
    salt: bytes
    data_end: int = BLOCK
    batches: list[Batch] = field(default_factory=list)
    crcs: dict[int, int] = field(default_factory=dict)
    """CRC by payload block."""
    footer: Footer | None = None
    compacted: Compacted | None = None
    last_seqno: int = 0
    last_time_ns: int = 0
    points: list[tuple[int, int]] = field(default_factory=list)
    """Seqno and time."""
    before: Record | None = None
    """The record right before what is read now."""
    states: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Seqno and time of the last write, by volume."""

    @property
    def ordinals(self) -> int:
        return self.compacted.ordinals if self.compacted else 1

    @property
    def records(self) -> list[Record]:
        return [record for batch in self.batches for record in batch.records]

    def payload(self, piece: Piece) -> bytes:
        """The bytes of a piece, by the rule of congruent placement."""
        if piece.block == 0:
            return bytes(piece.length_bytes)
        start = piece.block * BLOCK + piece.offset_bytes % BLOCK
        return self.content[start : start + piece.length_bytes]


def packed_rows(content: bytes, columns: int) -> list[tuple[int, ...]]:
    """Decode a packed table (section 3) from the front, every bit of it."""
    rows, columns_said, group_rows, groups = struct.unpack_from("<QIIQ", content)
    _need(columns_said == columns and group_rows == 128, "head of a packed table", 0)
    _need(groups == (rows + 127) // 128, "number of groups", 16)
    fences = struct.unpack_from(f"<{groups}Q", content, 24)
    starts = struct.unpack_from(f"<{groups + 1}Q", content, 24 + 8 * groups)
    body = 24 + 8 * groups + 8 * (groups + 1)
    out: list[tuple[int, ...]] = []
    for group in range(groups):
        count = min(128, rows - group * 128)
        found, end = _packed_group(content, body + starts[group], columns, count)
        _need(end == body + starts[group + 1], "length of a packed group", end)
        _need(found[0][0] == fences[group], "fence of a packed group", 24 + 8 * group)
        out += found
    end = body + starts[groups]
    padded = (end + 8 + 7) // 8 * 8
    _need(len(content) == padded and not any(content[end:]), "padding of a packed table", end)
    return out


def _packed_group(content: bytes, at: int, columns: int, count: int) -> tuple[list[tuple[int, ...]], int]:
    heads = [struct.unpack_from("<QBB", content, at + 10 * column) for column in range(columns)]
    at += 10 * columns
    values = []
    for minimum, shift, width in heads:
        length = (count * width + 7) // 8
        bits = int.from_bytes(content[at : at + length], "little")
        mask = (1 << width) - 1
        values.append([minimum + ((bits >> (row * width) & mask) << shift) for row in range(count)])
        at += length
    return list(zip(*values, strict=True)), at


def read_segment(content: bytes) -> Segment:
    """Parse a whole segment: header, all batches with the CRC of each payload block, and the footer if it is sealed.

    An unsealed segment's batches end where zeros or the end of the file begin.
    Raises: FormatError.
    """
    segment = _header(content)
    sealed = len(content) >= 2 * BLOCK and content[-BLOCK:][:8] == b"VSNAPEND"
    data_end = _u64(content, len(content) - BLOCK + 64) if sealed else len(content)
    segment.last_seqno, segment.last_time_ns = segment.first_seqno - 1, segment.time_before_ns
    while segment.data_end < data_end:
        if not sealed and not any(content[segment.data_end :]):
            break
        segment.batches.append(_batch(segment))
    if sealed:
        _need(segment.data_end == data_end, "end of the batches", segment.data_end)
        segment.footer = _footer(segment)
    return segment


def _header(content: bytes) -> Segment:
    block = _check_block(content, 0, "header")
    _need(block[:8] == b"VSNAPSEG", "magic", 0)
    version, incompatible, _, block_size = struct.unpack_from("<4I", block, 8)
    _need(version == 1 and incompatible <= 1 and block_size == BLOCK, "version, features or block size", 8)
    compacted = Compacted(*struct.unpack_from("<4Q", block, 120)) if incompatible else None
    ordinal, first_seqno, created_ns, time_before_ns = struct.unpack_from("<4Q", block, 40)
    _need(not any(block[152 if compacted else 120 : 4092]), "reserved bytes", 120)
    return Segment(
        content, block[24:40], ordinal, first_seqno, created_ns, time_before_ns, block[72:104], block[104:120],
        compacted=compacted,
    )  # fmt: skip


def _batch(segment: Segment) -> Batch:
    at, seqno = segment.data_end, segment.last_seqno + 1
    first = _check_block(segment.content, at, "descriptor")
    count, applied, payload, records = _u32(first, 4) >> 16, _u64(first, 32), _u32(first, 40), _u32(first, 44)
    stream = b""
    for index in range(count):
        block = _check_block(segment.content, at + index * BLOCK, "descriptor")
        head = struct.pack("<4sHH16sQQII", b"VSDB", index, count, segment.salt, seqno, applied, payload, records)
        _need(block[:48] == head, "head of a descriptor", at + index * BLOCK)
        length = _u32(block, 48)
        _need(length <= 4040 and not any(block[DESCRIPTOR_HEAD + length : 4092]), "stream's length", at + index * BLOCK)
        stream += block[DESCRIPTOR_HEAD : DESCRIPTOR_HEAD + length]
    batch = Batch(at, count, payload, applied)
    first_block = at // BLOCK + count
    block_number = first_block
    position = 0
    for _ in range(records):
        if segment.compacted and stream[position] in (GO_TO, POINT, STATE):
            _note(segment, stream[position : position + RECORD_HEAD])
            position += RECORD_HEAD
            segment.before = None
            continue
        record, block_number = _record(segment, stream[position:], block_number)
        segment.before = record
        segment.last_seqno, segment.last_time_ns = record.seqno, record.time_ns
        position += len(record.stream)
        batch.records.append(record)
    _need(position == len(stream) and block_number == first_block + payload, "length of a batch", at)
    segment.data_end = block_number * BLOCK
    return batch


def _note(segment: Segment, stream: bytes) -> None:
    """What only compacted segments say, and is no record."""
    kind, flags, reserved, volume, time_ns, a, b, tail_bytes = struct.unpack("<BBHIQQQI", stream)
    _need(not (flags or reserved or time_ns or tail_bytes) and (kind == STATE) == (volume > 0), "no record", a)
    if kind == GO_TO:
        _need(a > segment.last_seqno + 1 and (b == 0 or b > segment.last_time_ns), "go to", a)
        segment.last_seqno, segment.last_time_ns = a - 1, b or segment.last_time_ns
        return
    _need(a <= segment.last_seqno and b <= segment.last_time_ns, "seqno or time of a point or state", a)
    if kind == POINT:
        _need(a >= segment.first_seqno and all(seqno < a and time < b for seqno, time in segment.points), "point", a)
        segment.points.append((a, b))
    else:
        _need(all(before < volume for before in segment.states), "order of states", a)
        segment.states[volume] = (a, b)


def _follows(record: Record, before: Record | None) -> bool:
    """Is it a piece more of the record before, as it has to be?"""
    if before is None or record.kind not in (WRITE, ZERO) or before.kind not in (WRITE, ZERO):
        return False
    end = before.pieces[-1].offset_bytes + before.pieces[-1].length_bytes
    return (record.volume, record.time_ns) == (before.volume, before.time_ns) and record.a >= end


def _record(segment: Segment, stream: bytes, block: int) -> tuple[Record, int]:
    kind, flags, reserved, volume, time_ns, a, b, tail_bytes = struct.unpack_from("<BBHIQQQI", stream)
    further = segment.compacted is not None and bool(flags & FURTHER)
    seqno = segment.last_seqno if further else segment.last_seqno + 1
    _need(time_ns > segment.last_time_ns or (further and time_ns == segment.last_time_ns), "time", seqno)
    padded = (tail_bytes + 3) // 4 * 4
    tail = stream[RECORD_HEAD : RECORD_HEAD + tail_bytes]
    _need(reserved == 0 and len(stream) >= RECORD_HEAD + padded, "record", seqno)
    _need(not any(stream[RECORD_HEAD + tail_bytes : RECORD_HEAD + padded]), "padding of record", seqno)
    pieces: list[Piece] = []
    if kind == WRITE:
        pieces, block = _write(segment, a, b, flags, tail, block)
    elif kind == ZERO:
        pieces = [Piece(a, b, 0)]
    elif kind == VOLUME_RESIZE and not flags & SIZE_ALONE:
        pieces = [Piece(min(a, b), abs(a - b), 0)]
    known = {WRITE: 1}
    if segment.compacted:
        known = {WRITE: 1 | FURTHER, ZERO: FURTHER, VOLUME_RESIZE: SIZE_ALONE}
    _need(1 <= kind <= GAP_END or kind == FLOOR, "type of record", seqno)
    _need(flags & ~known.get(kind, 0) == 0, "flags of record", seqno)
    record = Record(seqno, kind, volume, time_ns, a, b, tail, stream[: RECORD_HEAD + padded], tuple(pieces))
    _need(not further or _follows(record, segment.before), "piece of a record", seqno)
    return record, block


def _write(
    segment: Segment, offset_bytes: int, length_bytes: int, flags: int, tail: bytes, block: int
) -> tuple[list[Piece], int]:
    """Cut a write into pieces, and check the CRC of each of its blocks, and the zeros around it."""
    covered = (offset_bytes % BLOCK + length_bytes + BLOCK - 1) // BLOCK
    bitmap = tail[4 * covered :] if flags & 1 else bytes((covered + 7) // 8)
    _need(
        len(bitmap) == (covered + 7) // 8 and len(tail) == 4 * covered + (len(bitmap) if flags & 1 else 0),
        "tail",
        block,
    )
    pieces: list[Piece] = []
    start = offset_bytes - offset_bytes % BLOCK
    for index in range(covered):
        low, high = (
            max(offset_bytes, start + index * BLOCK),
            min(offset_bytes + length_bytes, start + (index + 1) * BLOCK),
        )
        crc, zeros = _u32(tail, 4 * index), bitmap[index // 8] >> (index % 8) & 1
        if zeros:
            _need(crc == ZERO_BLOCK_CRC, "CRC of a block of zeros", block * BLOCK)
            _join(pieces, Piece(low, high - low, 0))
            continue
        content = segment.content[block * BLOCK : (block + 1) * BLOCK]
        _need(crc32c(content) == crc, "CRC of a payload block", block * BLOCK)
        around = content[: low % BLOCK] + content[low % BLOCK + high - low :]
        _need(segment.compacted is not None or not any(around), "zeros around a write", block * BLOCK)
        segment.crcs[block] = crc
        _join(pieces, Piece(low, high - low, block))
        block += 1
    return pieces, block


def _join(pieces: list[Piece], piece: Piece) -> None:
    """Append, joined with the last piece of the same write where it is of the same sort."""
    if pieces and (pieces[-1].block == 0) == (piece.block == 0):
        last = pieces.pop()
        piece = Piece(last.offset_bytes, last.length_bytes + piece.length_bytes, last.block)
    pieces.append(piece)


def _footer(segment: Segment) -> Footer:
    at, compacted = len(segment.content) - BLOCK, segment.compacted
    block = _check_block(segment.content, at, "trailer")
    features = int(compacted is not None)
    head = struct.pack("<8sII16sQQ", b"VSNAPEND", 1, features, segment.uuid, segment.ordinal, segment.first_seqno)
    _need(block[:48] == head, "head of the trailer", at)
    said = struct.unpack_from("<4Q", block, 48)
    applied = segment.batches[-1].applied_seqno if segment.batches else said[3]
    facts = (segment.last_seqno, segment.last_time_ns, segment.data_end, applied)
    _need(said == facts, "facts of the trailer", at + 48)
    _need(block[80:112] == segment.previous_digest, "digest of the segment before", at + 80)
    digest = hashlib.sha256(segment.content[: segment.data_end]).digest()
    _need(block[112:144] == digest, "digest", at + 112)
    _need(
        _u64(block, 264) == segment.time_before_ns and block[272:288] == segment.salt, "time before or salt", at + 264
    )
    if compacted:
        again = Compacted(_u64(block, 288), _u64(block, 296), _u64(block, 304), _u64(block, 376))
        _need(
            compacted == again and again.until_seqno >= segment.last_seqno,
            "what header and trailer say alike",
            at + 288,
        )
    else:
        _need(not any(block[288:368]) and not any(block[376:384]), "reserved bytes of the trailer", at + 288)
    _need(not any(block[384:4092]), "reserved bytes of the trailer", at + 384)
    sections, places, end = [], [], segment.data_end
    for number in range(6 if compacted else 5):
        entry = 144 + 24 * number if number < 5 else 344
        position, length, crc, reserved = struct.unpack_from("<QQII", block, entry)
        _need(position == (end + 7) // 8 * 8 and reserved == 0, f"position of section {number}", at)
        content = segment.content[position : position + length]
        _need(crc32c(content) == crc, f"CRC of section {number}", position)
        _need(not any(segment.content[end:position]), "padding between sections", end)
        sections.append(content)
        places.append((position, length))
        end = position + length
    _need(end <= at and at - end < BLOCK and not any(segment.content[end:at]), "padding before the trailer", end)
    points: list[tuple[int, int]] = list(struct.iter_unpack("<QQ", sections[5][8:])) if compacted else []
    _need(not compacted or _u64(sections[5], 0) == len(points), "number of points", places[-1][0])
    return Footer(
        segment.last_seqno, segment.last_time_ns, applied, block[80:112], digest, packed_rows(sections[0], 6), _maps(sections[1]),
        list(struct.unpack(f"<{len(sections[2]) // 4}I", sections[2])), _events(sections[3]), _volumes(sections[4]), places,
        _u64(block, 368), block[312:344] if compacted else digest, points,
    )  # fmt: skip


def _maps(content: bytes) -> dict[int, list[tuple[int, ...]]]:
    count, reserved = struct.unpack_from("<II", content)
    _need(reserved == 0, "reserved bytes of the maps", 4)
    maps: dict[int, list[tuple[int, ...]]] = {}
    for index in range(count):
        volume, reserved, position, length = struct.unpack_from("<IIQQ", content, 8 + 24 * index)
        _need(reserved == 0 and volume > max(maps, default=0), "order of the maps", 8 + 24 * index)
        maps[volume] = packed_rows(content[position : position + length], 4)
    return maps


def _events(content: bytes) -> list[tuple[int, bytes]]:
    events, at = [], 0
    while at < len(content):
        tail_bytes = _u32(content, at + 8 + 32)
        length = RECORD_HEAD + (tail_bytes + 3) // 4 * 4
        events.append((_u64(content, at), content[at + 8 : at + 8 + length]))
        at += (8 + length + 7) // 8 * 8
    _need(at == len(content), "end of the events", at)
    return events


def _volumes(content: bytes) -> list[VolumeRow]:
    _need(len(content) % 48 == 0, "length of the volumes", 0)
    rows = [VolumeRow(*row) for row in struct.iter_unpack("<IIQQQQQ", content)]
    _need([row.volume for row in rows] == sorted({row.volume for row in rows}), "order of the volumes", 0)
    return rows


@dataclass(frozen=True)
class MergedMap:
    first_ordinal: int
    count: int
    first_seqno: int
    last_seqno: int
    digest: bytes
    tables: dict[int, list[tuple[int, ...]]]
    data_bytes: dict[int, int]


def read_map(content: bytes, uuid: bytes) -> MergedMap:
    """Parse a merged map (section 4)."""
    block = _check_block(content, 0, "header of a map")
    _need(block[:32] == struct.pack("<8sII16s", b"VSNAPMAP", 1, 0, uuid), "head of a map", 0)
    first_ordinal, count, first_seqno, last_seqno = struct.unpack_from("<4Q", block, 32)
    length, volumes, crc = struct.unpack_from("<QII", block, 96)
    directory = content[BLOCK : BLOCK + 32 * volumes]
    _need(length == len(content) and crc32c(directory) == crc, "length or directory of a map", 96)
    tables, data_bytes = {}, {}
    for volume, table_crc, position, table_bytes, held in struct.iter_unpack("<IIQQQ", directory):
        table = content[position : position + table_bytes]
        _need(crc32c(table) == table_crc, "CRC of a map's table", position)
        tables[volume], data_bytes[volume] = packed_rows(table, 4), held
    return MergedMap(first_ordinal, count, first_seqno, last_seqno, block[64:96], tables, data_bytes)


@dataclass(frozen=True)
class Base:
    volume: int
    size_bytes: int
    data_bytes: int
    checksums: list[int]
    """CRC per block of the volume."""
    rows: list[tuple[int, ...]]
    seqno: int
    last_write_seqno: int
    last_write_ns: int
    patches: dict[int, bytes]
    """Blocks that lie in the index."""


def read_base(content: bytes, uuid: bytes) -> Base:
    """Parse a base index (section 5)."""
    block = _check_block(content, 0, "header of a base")
    moved = _u32(block, 12)
    _need(moved in (0, 1), "features of a base", 12)
    _need(block[:32] == struct.pack("<8sII16s", b"VSNAPBAS", 1, moved, uuid), "head of a base", 0)
    size_bytes, position, length, crc = struct.unpack_from("<QQQI", block, 40)
    table = content[position : position + length]
    _need(crc32c(table) == crc, "CRC of a base's map", position)
    blocks = (size_bytes + BLOCK - 1) // BLOCK
    kept = struct.unpack_from(f"<{blocks}I", content, BLOCK)
    patches_at, patches, patches_crc = struct.unpack_from("<QQI", block, 104)
    end = position + length
    if not moved:
        _need(not any(block[80:4092]) and end == len(content), "what is behind the map of a base", end)
        return _base(block, kept, table, {})
    listed = content[patches_at : patches_at + 8 * patches]
    _need(patches_at == end and crc32c(listed) == patches_crc, "list of patches", end)
    first = (end + 8 * patches + BLOCK - 1) // BLOCK * BLOCK if patches else end
    _need(len(content) == first + patches * BLOCK and not any(content[end + 8 * patches : first]), "patches", first)
    places = struct.unpack(f"<{patches}Q", listed)
    _need(list(places) == sorted(set(places)), "order of patches", end)
    found = {place: content[first + i * BLOCK : first + (i + 1) * BLOCK] for i, place in enumerate(places)}
    return _base(block, kept, table, found)


def _base(block: bytes, kept: tuple[int, ...], table: bytes, patches: dict[int, bytes]) -> Base:
    volume, size_bytes = struct.unpack_from("<I4xQ", block, 32)
    checksums = [crc ^ ZERO_BLOCK_CRC for crc in kept]
    seqno, last_write_seqno, last_write_ns = struct.unpack_from("<3Q", block, 80)
    rows = packed_rows(table, 4)
    return Base(
        volume, size_bytes, _u64(block, 72), checksums, rows, seqno, last_write_seqno, last_write_ns, patches
    )  # fmt: skip


SEGMENT_NAME = re.compile(r"(\d{20})(?:-([1-9]\d*))?\.seg")
"""First seqno, and the generation of a compacted one."""


def segment_paths(repository: Path) -> dict[tuple[int, int], Path]:
    """By first seqno and generation. Other names are not read."""
    names = {path: SEGMENT_NAME.fullmatch(path.name) for path in sorted((repository / "journal").iterdir())}
    return {(int(name[1]), int(name[2] or 0)): path for path, name in names.items() if name}


def _counting(repository: Path) -> Iterator[tuple[Path, Segment]]:
    """Those that no other one supersedes, in order (section 2.6)."""
    paths = segment_paths(repository)
    left = sorted(paths, key=lambda name: (-name[1], name[0]))
    counting: dict[tuple[int, int], Segment] = {}
    while left:
        name = left.pop(0)
        segment = read_segment(paths[name].read_bytes())
        counting[name] = segment
        within = range(segment.first_seqno, segment.last_seqno + 1)
        _need(not any(first in within for first, _ in counting.keys() - {name}), f"overlap with {paths[name].name}", 0)
        left = [other for other in left if not name[1] or other[0] not in within]
    return ((paths[name], counting[name]) for name in sorted(counting))


def read_journal(repository: Path) -> Iterator[Segment]:
    """All segments that count in order; that they follow each other is checked: ordinal, seqno, time, digest, name."""
    before: Segment | None = None
    for path, segment in _counting(repository):
        suffix = f"-{segment.compacted.generation}" if segment.compacted else ""
        _need(path.name == f"{segment.first_seqno:020}{suffix}.seg", f"name of {path.name}", 48)
        if before is not None:
            _need(before.footer is not None, f"{path.name} follows a segment that is not sealed", 0)
            assert before.footer is not None
            expected = (
                before.ordinal + before.ordinals,
                before.footer.last_seqno + 1,
                before.footer.last_time_ns,
                before.footer.chain_digest,
            )
            found = (segment.ordinal, segment.first_seqno, segment.time_before_ns, segment.previous_digest)
            _need(found == expected, f"chain at {path.name}", 40)
        yield segment
        before = segment

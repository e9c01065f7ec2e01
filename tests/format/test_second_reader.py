"""native/FORMAT.md is byte-exact: a reader written from that page alone agrees with the C core and the model on every file."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support import format_reader
from tests.support.format_reader import BLOCK, Piece, Record, Segment, VolumeRow
from tests.support.journals import UUID, Directory, assert_journal, sample
from tests.support.reference import History, Image, Kind, Mark, Write, Zero
from vsnapfs.binding import base_move
from vsnapfs.binding.compact import Wish, compact

pytestmark = pytest.mark.format


@pytest.fixture
def made(memory_path: Path) -> Iterator[tuple[Directory, History]]:
    directory = Directory(memory_path)
    yield directory, sample(directory)
    directory.close()


@pytest.fixture
def segments(made: tuple[Directory, History]) -> list[Segment]:
    return list(format_reader.read_journal(made[0].path))


def test_the_core_agrees_with_the_model(made: tuple[Directory, History]) -> None:
    directory, history = made
    with directory.open(owner=False) as journal:
        assert journal.facts().last_seqno == history.last_seqno
        assert_journal(journal, history, range(1, history.last_seqno + 1))


def test_records_are_those_of_the_model(made: tuple[Directory, History], segments: list[Segment]) -> None:
    records = [record for segment in segments for record in segment.records]
    assert [record.seqno for record in records] == list(range(1, made[1].last_seqno + 1))
    assert all(earlier.time_ns < later.time_ns for earlier, later in pairwise(records))
    for record, expected in zip(records, made[1].records, strict=True):
        if isinstance(expected, Write):
            found = (record.kind, record.volume, record.a, record.b)
            kind = format_reader.WRITE if any(expected.data) else format_reader.ZERO
            assert found == (kind, expected.volume, expected.offset_bytes, len(expected.data))
        elif isinstance(expected, Zero):
            found = (record.kind, record.volume, record.a, record.b)
            assert found == (format_reader.ZERO, expected.volume, expected.offset_bytes, expected.length_bytes)
        elif isinstance(expected, Mark):
            assert (record.kind, record.a, record.tail.decode()) == (
                format_reader.BOOKMARK_ADD,
                record.seqno,
                expected.text,
            )


def test_payload_gives_the_volumes(made: tuple[Directory, History], segments: list[Segment]) -> None:
    """Volumes put together from the payload blocks, by our own rule, without a map."""
    base = (made[0].path / "base/00000001.img").read_bytes()
    images: dict[int, bytearray] = {}
    last = made[1].state(made[1].last_seqno)
    for segment in segments:
        for record in segment.records:
            _play(images, segment, record, base)
    for volume, image in last.items():
        if not image.removed:
            assert images[volume] == image.content


def _play(images: dict[int, bytearray], segment: Segment, record: Record, base: bytes) -> None:
    if record.kind == format_reader.VOLUME_ADD:
        images[record.volume] = bytearray(base if record.volume == 1 else record.b)
    if record.kind == format_reader.VOLUME_RESIZE:
        image = images[record.volume]
        image[:] = image[: record.b] + bytes(max(0, record.b - len(image)))
    for piece in record.pieces:
        end = min(piece.offset_bytes + piece.length_bytes, len(images[record.volume]))
        length = max(0, end - piece.offset_bytes)
        images[record.volume][piece.offset_bytes : end] = segment.payload(piece)[:length]


def test_footer_follows_from_the_batches(segments: list[Segment]) -> None:
    sealed = [segment for segment in segments if segment.footer]
    assert len(sealed) == 10
    for segment in sealed:
        footer = segment.footer
        assert footer is not None
        assert footer.rows == [
            (record.seqno, record.time_ns, record.volume, piece.offset_bytes, piece.length_bytes, piece.block)
            for record in segment.records
            for piece in record.pieces
        ]
        blocks = segment.data_end // BLOCK
        assert footer.checksums == [segment.crcs.get(block, 0) for block in range(blocks + blocks % 2)]
        assert footer.events == [(record.seqno, record.stream) for record in segment.records if record.kind > 2]
        assert footer.maps == {volume: _rows(places, 0) for volume, places in _newest(segment).items()}


Places = dict[int, int]
"""Byte of the volume to byte of the segment's file, 0: zeros."""


def _newest(segment: Segment) -> dict[int, Places]:
    """Where each byte lies that the segment's records touched, byte by byte."""
    places: dict[int, Places] = {}
    for record in segment.records:
        for piece in record.pieces:
            _lay(places.setdefault(record.volume, {}), piece)
    return places


def _lay(places: Places, piece: Piece) -> None:
    shift = piece.block * BLOCK + piece.offset_bytes % BLOCK - piece.offset_bytes
    for at in range(piece.offset_bytes, piece.offset_bytes + piece.length_bytes):
        places[at] = at + shift if piece.block else 0


def _rows(places: Places, segment: int) -> list[tuple[int, ...]]:
    """The longest extents whose positions continue: what a map's table has to say."""
    rows: list[tuple[int, ...]] = []
    before: tuple[int, int] = (-2, -2)
    for at in sorted(places):
        place = places[at]
        continues = at == before[0] + 1 and (place == before[1] + 1 if place else before[1] == 0)
        if continues:
            offset, length, *rest = rows[-1]
            rows[-1] = (offset, length + 1, *rest)
        else:
            rows.append((at, 1, segment if place else 0, place // BLOCK))
        before = (at, place)
    return rows


def test_footer_says_the_state_of_each_volume(made: tuple[Directory, History], segments: list[Segment]) -> None:
    times = {record.seqno: record.time_ns for segment in segments for record in segment.records}
    for segment in segments:
        if segment.footer:
            state = made[1].state(segment.footer.last_seqno)
            assert segment.footer.volumes == [_row(volume, image, times) for volume, image in sorted(state.items())]


def _row(volume: int, image: Image, times: dict[int, int]) -> VolumeRow:
    seqno = image.last_write_seqno
    return VolumeRow(volume, image.removed, image.size_bytes, image.added_seqno, seqno, times[seqno], image.data_bytes)


def test_merged_map_is_the_union_of_its_segments(made: tuple[Directory, History], segments: list[Segment]) -> None:
    paths = sorted((made[0].path / "maps").iterdir())
    assert [path.name for path in paths] == ["000000000000-8.map"]
    merged = format_reader.read_map(paths[0].read_bytes(), UUID)
    last = segments[7].footer
    assert last is not None
    found = (merged.first_ordinal, merged.count, merged.first_seqno, merged.last_seqno, merged.digest)
    assert found == (0, 8, 1, last.last_seqno, last.digest)
    union: dict[int, dict[int, tuple[int, int]]] = {}
    for number, segment in enumerate(segments[:8]):
        for volume, places in _newest(segment).items():
            union.setdefault(volume, {}).update({at: (number, place) for at, place in places.items()})
    assert merged.tables.keys() == union.keys()
    for volume, table in merged.tables.items():
        assert {at: place for row in table for at, place in _spread(row)} == {
            at: (number if place else 0, place) for at, (number, place) in union[volume].items()
        }
        assert merged.data_bytes[volume] == sum(place > 0 for _, place in union[volume].values())


def _spread(row: tuple[int, ...]) -> Iterator[tuple[int, tuple[int, int]]]:
    """Each byte of a map's row: (offset, (segment, place))."""
    offset, length, segment, block = row
    for at in range(offset, offset + length):
        yield at, (segment if block else 0, block * BLOCK + at - offset // BLOCK * BLOCK if block else 0)


def test_base_index(made: tuple[Directory, History]) -> None:
    directory, history = made
    base = format_reader.read_base((directory.path / "base/00000001.idx").read_bytes(), UUID)
    image = history.state(1)[1]
    assert (base.volume, base.size_bytes, base.data_bytes) == (1, image.size_bytes, image.data_bytes)
    padded = bytes(image.content) + bytes(-image.size_bytes % BLOCK)
    assert base.checksums == [format_reader.crc32c(padded[at : at + BLOCK]) for at in range(0, len(padded), BLOCK)]
    assert (directory.path / "base/00000001.img").read_bytes()[: image.size_bytes] == image.content
    held = [run for run in image.runs() if run.kind == Kind.DATA]
    assert base.rows == [(run.offset_bytes, run.length_bytes, 0, run.offset_bytes // BLOCK + 1) for run in held]


def test_a_base_that_was_moved(made: tuple[Directory, History]) -> None:
    """Twice, so that there are patches, and blocks that were patches."""
    directory, history = made
    marks = [number for number, record in enumerate(history.records, start=1) if isinstance(record, Mark)]
    with directory.open() as journal:
        for floor in (marks[4], marks[8]):
            base_move.set_floor(journal, floor)
            patched = [
                facts.patched_bytes
                for volume in (1, 2, 3)
                if (facts := base_move.move_base(journal, volume, floor)) is not None
            ]
            assert any(patched)
        journal.seal()
        assert not list((directory.path / "base").glob("00000003.*")), "it was removed by then"
        for volume in (1, 2):
            assert_base(directory.path / "base" / f"{volume:08x}", floor, history.state(floor)[volume])
            assert (
                journal.time_of(history.state(floor)[volume].last_write_seqno) == read(directory, volume).last_write_ns
            )
    footers = [segment.footer for segment in format_reader.read_journal(directory.path)]
    assert [footer.floor_seqno for footer in footers if footer is not None] == [0] * 10 + [marks[8]]


def read(directory: Directory, volume: int) -> format_reader.Base:
    return format_reader.read_base((directory.path / "base" / f"{volume:08x}.idx").read_bytes(), UUID)


def assert_base(path: Path, floor: int, image: Image) -> None:
    """The base is the volume after the record ``floor``, put together by the page's words."""
    base = format_reader.read_base(path.with_suffix(".idx").read_bytes(), UUID)
    held = [run for run in image.runs() if run.kind == Kind.DATA]
    assert base.rows == [(run.offset_bytes, run.length_bytes, 0, run.offset_bytes // BLOCK + 1) for run in held]
    told = (base.size_bytes, base.data_bytes, base.seqno, base.last_write_seqno)
    assert told == (image.size_bytes, image.data_bytes, floor, image.last_write_seqno)
    raw = path.with_suffix(".img").read_bytes()
    padded = bytes(image.content) + bytes(-image.size_bytes % BLOCK)
    for run in held:
        for block in range(run.offset_bytes // BLOCK, (run.offset_bytes + run.length_bytes + BLOCK - 1) // BLOCK):
            content = base.patches.get(block, raw[block * BLOCK : (block + 1) * BLOCK]).ljust(BLOCK, b"\0")
            assert content == padded[block * BLOCK : (block + 1) * BLOCK]
            assert base.checksums[block] == format_reader.crc32c(content)


def test_the_reader_itself_sees_damage(made: tuple[Directory, History]) -> None:
    """Each bit of a sealed segment matters to the second reader, so its agreement means something."""
    content = bytearray(made[0].segments()[0].read_bytes())
    for at in range(0, len(content), 997):
        content[at] ^= 1 << at % 8
        with pytest.raises(format_reader.FormatError):
            format_reader.read_segment(bytes(content))
        content[at] ^= 1 << at % 8
    format_reader.read_segment(bytes(content))


def test_compacted_segments(made: tuple[Directory, History]) -> None:
    """By the page's words: their records give each volume at each root, and the footer follows from them."""
    directory, history = made
    marks = [number for number, record in enumerate(history.records, start=1) if isinstance(record, Mark)]
    roots = [marks[0], marks[2], marks[2] + 5, marks[6], marks[8]]
    with directory.open() as journal:
        assert compact(journal, Wish(8, 1, roots, [])) is not None
        assert compact(journal, Wish(0, 8, roots, [marks[1]])) is not None
        times = {root: journal.time_of(root) for root in roots}
    segments = list(format_reader.read_journal(directory.path))
    assert [(segment.ordinal, segment.ordinals) for segment in segments] == [(0, 8), (8, 1), (9, 1), (10, 1)]
    base = (directory.path / "base/00000001.img").read_bytes()
    for root in roots:
        images: dict[int, bytearray] = {}
        for segment in segments:
            for record in segment.records:
                if record.seqno <= root:
                    _play(images, segment, record, base)
        for volume, image in history.state(root).items():
            assert image.removed or images[volume] == image.content
    for segment, until in zip(segments[:2], (marks[8], marks[8]), strict=True):
        footer, compacted = segment.footer, segment.compacted
        assert footer is not None
        assert compacted is not None
        assert (compacted.base_floor, compacted.until_seqno) == (0, until)
        assert footer.points == segment.points
        assert footer.points == [
            (root, times[root]) for root in roots if segment.first_seqno <= root <= segment.last_seqno
        ]
        assert footer.rows == [
            (record.seqno, record.time_ns, record.volume, piece.offset_bytes, piece.length_bytes, piece.block)
            for record in segment.records
            for piece in record.pieces
        ]
        assert footer.maps == {volume: _rows(places, 0) for volume, places in _newest(segment).items()}
        assert footer.events == [(record.seqno, record.stream) for record in segment.records if record.kind > 2]
        assert marks[1] not in [seqno for seqno, _ in footer.events]
        state = history.state(segment.last_seqno)
        assert [(row.volume, row.size_bytes, row.last_write_seqno, row.data_bytes) for row in footer.volumes] == [
            (volume, image.size_bytes, image.last_write_seqno, format_reader.UNKNOWN)
            for volume, image in sorted(state.items())
        ]
        assert {volume: seqno for volume, (seqno, _) in segment.states.items()} == {
            volume: image.last_write_seqno
            for volume, image in state.items()
            if image.last_write_seqno >= segment.first_seqno
        }

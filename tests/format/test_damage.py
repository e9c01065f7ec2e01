"""Damage costs exactly what needed the damaged bytes, is found, is named, and never gives wrong bytes."""

from __future__ import annotations

import os
import random
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import format_reader
from tests.support.format_reader import BLOCK, crc32c
from tests.support.journals import UUID, Directory, append, assert_journal, sample
from tests.support.reference import Add, History, Write
from vsnapfs.binding import Journal, View
from vsnapfs.core.errors import CorruptExtentError, FormatUnknownError, IntegrityError, VsnapfsError

pytestmark = pytest.mark.format

FLIPS = int(os.environ.get("VSNAPFS_FLIPS", "300"))
"""Bits tried in each file."""


@pytest.fixture
def directory(memory_path: Path) -> Iterator[Directory]:
    directory = Directory(memory_path)
    yield directory
    directory.close()


class Patched:
    """A file whose bytes are changed in place for the length of a block, so that nothing has to be opened again."""

    def __init__(self, path: Path, at: int, content: bytes) -> None:
        self._path, self._at, self._content = path, at, content

    def _put(self, content: bytes) -> bytes:
        with self._path.open("r+b") as file:
            file.seek(self._at)
            before = file.read(len(content))
            file.seek(self._at)
            file.write(content)
        return before

    def __enter__(self) -> None:
        self._before = self._put(self._content)

    def __exit__(self, *_: object) -> None:
        self._put(self._before)


def flipped(path: Path, bit: int) -> Patched:
    """The file with one bit wrong."""
    with path.open("rb") as file:
        file.seek(bit // 8)
        return Patched(path, bit // 8, bytes([file.read(1)[0] ^ 1 << bit % 8]))


def three_blocks(directory: Directory) -> tuple[Journal, View, int, bytes]:
    """A sealed segment with three payload blocks. Returns a reader, its view, the file's first payload block, the content."""
    content = random.Random(3).randbytes(3 * BLOCK)
    history = History()
    with directory.open() as journal:
        append(journal, history, Add(1, 3 * BLOCK))
        append(journal, history, Write(1, 0, content))
        journal.seal()
    reader = directory.open(owner=False)
    view = reader.view(1, 2)
    return reader, view, next(view.runs()).block, content


def assert_only_this_block_is_lost(view: View, number: int, first: int, content: bytes) -> None:
    for other in range(3):
        if other != number:
            assert view.read(other * BLOCK, BLOCK) == content[other * BLOCK : (other + 1) * BLOCK]
    with pytest.raises(CorruptExtentError) as caught:
        view.read(number * BLOCK + 17, 100)
    found = (caught.value.volume, caught.value.segment, caught.value.offset_bytes)
    assert found == (1, 1, (first + number) * BLOCK)


def test_every_bit_of_a_payload_block(directory: Directory) -> None:
    """32 768 flips: each read of the block fails, and no other read does."""
    reader, view, first, content = three_blocks(directory)
    path = directory.segments()[0]
    with view, path.open("r+b", buffering=0) as file:
        for bit in range(8 * BLOCK):
            at, byte = (first + 1) * BLOCK + bit // 8, content[BLOCK + bit // 8]
            file.seek(at)
            file.write(bytes([byte ^ 1 << bit % 8]))
            with pytest.raises(CorruptExtentError):
                view.read(BLOCK, BLOCK)
            if bit % 997 == 0:
                assert_only_this_block_is_lost(view, 1, first, content)
            file.seek(at)
            file.write(bytes([byte]))
        assert view.read(0, 3 * BLOCK) == content
    reader.close()


def test_a_lost_write_and_a_stale_block_are_seen(directory: Directory) -> None:
    """A block that reads as zeros, or as another good block, is no less wrong than a flipped bit."""
    reader, view, first, content = three_blocks(directory)
    path = directory.segments()[0]
    with view:
        for wrong in (bytes(BLOCK), content[:BLOCK], content[2 * BLOCK :]):
            with Patched(path, (first + 1) * BLOCK, wrong):
                assert_only_this_block_is_lost(view, 1, first, content)
    reader.close()


def faults(journal: Journal, *, read_payload: bool = True) -> list[str]:
    found = [
        fault.text for facts in journal.segments() for fault in journal.check_segment(facts.first_seqno, read_payload)
    ]
    index = 0
    while (checked := journal.check_map(index)) is not None:
        found += [checked[1].text] if checked[1] else []
        index += 1
    return found


def test_one_bit_in_every_payload_block_of_a_journal(directory: Directory) -> None:
    """`check` finds each, and exactly the points that show a byte of the block are lost."""
    history = sample(directory)
    rng = random.Random(5)
    reader = directory.open(owner=False)
    assert faults(reader) == []
    payload = [
        (path, block)
        for path in directory.segments()
        for block in sorted(format_reader.read_segment(path.read_bytes()).crcs)
    ]
    for number, (path, block) in enumerate(payload):
        with flipped(path, block * BLOCK * 8 + rng.randrange(8 * BLOCK)):
            index = directory.segments().index(path)
            found = [
                fault
                for fault in reader.check_segment(reader.segments()[index].first_seqno, True)
                if fault.offset_bytes == block * BLOCK
            ]
            assert len(found) == 1
            assert (found[0].code < 0, found[0].segment) == (True, int(path.stem))
            if number % 8 == 0:
                assert_containment(reader, history, int(path.stem), block, rng)
    assert faults(reader) == []
    reader.close()


def assert_containment(reader: Journal, history: History, segment: int, block: int, rng: random.Random) -> None:
    """At some points: what the view's runs say needs the block is lost, all the rest reads as the model."""
    for seqno, state in history.states(rng.choices(range(1, history.last_seqno + 1), k=4)):
        for volume, image in state.items():
            if image.removed:
                continue
            with reader.view(volume, seqno) as view:
                for run in view.runs():
                    for at in range(run.offset_bytes, run.offset_bytes + run.length_bytes, BLOCK):
                        _read_piece(view, at, bytes(image.content), segment, block)


def _read_piece(view: View, at: int, content: bytes, segment: int, block: int) -> None:
    """Read up to a block of one run; it must be right, or the damaged block must be what it needs."""
    found = bytes_or_error(view, at, BLOCK)
    if isinstance(found, VsnapfsError):
        assert (type(found), found.segment, found.offset_bytes) == (CorruptExtentError, segment, block * BLOCK)
    else:
        assert found == content[at : at + BLOCK]


def bytes_or_error(view: View, offset_bytes: int, length_bytes: int) -> bytes | VsnapfsError:
    """What a read gives, whichever it is."""
    try:
        return view.read(offset_bytes, length_bytes)
    except VsnapfsError as error:
        return error


def test_any_bit_of_any_file_never_gives_wrong_bytes(directory: Directory) -> None:
    """Bits of headers, descriptors, payload, footers, maps, base indexes, images: refused, reported, or harmless; never wrong.

    `check` with payload finds each of those in segments and maps, but for the note of the clean end at the very end of the
    journal: no record is lost with it, and damage of it cannot be told from a torn write.
    """
    history = sample(directory, segments=8)
    rng = random.Random(7)
    paths = [*directory.segments(), *(directory.path / "maps").iterdir(), *(directory.path / "base").iterdir()]
    ends = {path: path.stat().st_size for path in paths}
    clean_end = format_reader.read_segment(directory.segments()[-1].read_bytes()).batches[-1]
    assert not clean_end.records
    ends[directory.segments()[-1]] = clean_end.position
    for path in paths:
        for _ in range(FLIPS):
            bit = interesting_bit(path, rng)
            with flipped(path, bit):
                survive(directory, history, rng, must_find=path.suffix in (".seg", ".map") and bit // 8 < ends[path])


def interesting_bit(path: Path, rng: random.Random) -> int:
    """Half of the draws from where structure is: the first two blocks and the last 12 KiB."""
    size = path.stat().st_size
    if rng.random() < 0.5:
        return rng.randrange(8 * size)
    return 8 * rng.choice(
        [rng.randrange(min(size, 2 * BLOCK)), max(0, size - 1 - rng.randrange(3 * BLOCK))]
    ) + rng.randrange(8)


def survive(directory: Directory, history: History, rng: random.Random, *, must_find: bool) -> None:
    try:
        reader = directory.open(owner=False)
    except (IntegrityError, FormatUnknownError):
        return
    last = reader.facts().last_seqno
    known = faults(reader)
    assert known or last < history.last_seqno or not must_find
    for seqno, state in history.states(rng.choices(range(1, last + 1), k=2)):
        for volume, image in state.items():
            if image.removed:
                continue
            found = volume_or_error(reader, volume, seqno)
            assert isinstance(found, IntegrityError) or found == bytes(image.content)
    reader.close()


def volume_or_error(journal: Journal, volume: int, seqno: int) -> bytes | VsnapfsError:
    """A whole volume, or why it cannot be had."""
    try:
        with journal.view(volume, seqno) as view:
            return view.read(0, view.size_bytes)
    except VsnapfsError as error:
        return error


def test_a_damaged_footer_costs_nothing(directory: Directory) -> None:
    """Its sections follow from the batches: all points still read, and `check` names the section."""
    history = sample(directory, segments=8)
    shutil.rmtree(directory.path / "maps")
    (directory.path / "maps").mkdir()
    path = directory.segments()[4]
    footer = format_reader.read_segment(path.read_bytes()).footer
    assert footer is not None
    for position, length in footer.sections:
        with flipped(path, 8 * (position + length // 2)), directory.open(owner=False) as reader:
            assert len(list(reader.check_segment(reader.segments()[4].first_seqno, False))) == 1
            assert_journal(reader, history, range(1, history.last_seqno + 1, 5))


def sealed_anew(block: bytes) -> bytes:
    return block[:4092] + crc32c(block[:4092]).to_bytes(4, "little")


@pytest.mark.parametrize(
    ("places", "what"),
    [
        pytest.param([(-BLOCK, 56)], "the trailer is damaged", id="the time of the last record"),
        pytest.param([(0, 64), (-BLOCK, 264)], "the record before it has another time", id="the time before"),
        pytest.param([(0, 64)], "header and trailer are of different segments", id="the time before, in the header"),
    ],
)
def test_check_compares_times_with_the_records(directory: Directory, places: list[tuple[int, int]], what: str) -> None:
    """Times are found by what the ends of a segment say, which may match their checksums and be wrong all the same."""
    sample(directory, segments=3)
    path = directory.segments()[1]
    content = bytearray(path.read_bytes())
    for block, at in places:
        begin = block % len(content)
        content[begin + at] ^= 1
        content[begin : begin + BLOCK] = sealed_anew(bytes(content[begin : begin + BLOCK]))
    path.write_bytes(content)
    with directory.open(owner=False) as reader:
        faults = [fault.text for fault in reader.check_segment(reader.segments()[1].first_seqno, False)]
    assert len(faults) == 1
    assert what in faults[0]


@pytest.mark.parametrize(
    "column", [pytest.param(3, id="offset"), pytest.param(4, id="length"), pytest.param(5, id="block")]
)
def test_records_that_cannot_be_are_no_records(directory: Directory, column: int) -> None:
    """A footer that matches its checksums may say of a write that it lies where nothing can."""
    sample(directory, segments=3)
    path = directory.segments()[1]
    content = bytearray(path.read_bytes())
    trailer = len(content) - BLOCK
    at, length = struct.unpack_from("<QQ", content, trailer + 144)
    (groups,) = struct.unpack_from("<Q", content, at + 16)
    content[at + 24 + 8 * (2 * groups + 1) + 10 * column + 7] |= 0x80
    struct.pack_into("<I", content, trailer + 144 + 16, crc32c(bytes(content[at : at + length])))
    content[trailer:] = sealed_anew(bytes(content[trailer:]))
    path.write_bytes(content)
    with directory.open(owner=False) as reader:
        facts = reader.segments()[1]
        middle = (facts.first_seqno + facts.last_seqno) // 2
        with pytest.raises(IntegrityError, match="its records are not sound"):
            reader.view(1, middle)
        assert len(list(reader.check_segment(facts.first_seqno, False))) == 1


def test_a_damaged_or_missing_map_costs_nothing(directory: Directory) -> None:
    history = sample(directory, segments=8)
    path = next((directory.path / "maps").iterdir())
    points = range(1, history.last_seqno + 1, 5)
    for at in (3, 40, BLOCK + 3, BLOCK + 40, path.stat().st_size - 20):
        with flipped(path, 8 * at), directory.open(owner=False) as reader:
            assert_journal(reader, history, points)
    path.unlink()
    with directory.open(owner=False) as reader:
        assert_journal(reader, history, points)


def test_a_damaged_base_block_is_named(directory: Directory) -> None:
    history = sample(directory, segments=1)
    image = history.state(1)[1]
    path = directory.path / "base/00000001.img"
    with directory.open(owner=False) as reader, reader.view(1, 1) as view:
        for block in (0, 6, image.size_bytes // BLOCK):
            with flipped(path, 8 * (block * BLOCK + 11)):
                with pytest.raises(CorruptExtentError) as caught:
                    view.read(block * BLOCK, BLOCK)
                found = (caught.value.volume, caught.value.segment or 0, caught.value.offset_bytes or 0)
                assert found == (1, 0, block * BLOCK)
                other = (block + 8) * BLOCK % image.size_bytes // BLOCK * BLOCK
                assert view.read(other, BLOCK) == image.content[other : other + BLOCK]


def refused(directory: Directory, kind: type[VsnapfsError], exit_status: int) -> None:
    """Neither an owner nor a reader opens it, and nothing is changed."""
    before = {path: path.read_bytes() for path in directory.segments()}
    for owner in (False, True):
        with pytest.raises(kind) as caught:
            directory.open(owner=owner)
        assert caught.value.exit_status == exit_status
        assert {path: path.read_bytes() for path in directory.segments()} == before


@pytest.mark.parametrize("which", [0, 3, 7, 8])
def test_a_missing_segment(directory: Directory, which: int) -> None:
    """First, middle, last sealed; the last one of all leaves a journal that ends in a sealed segment, which is sound."""
    sample(directory, segments=8)
    directory.segments()[which].unlink()
    if which == 8:
        directory.open(owner=False).close()
    else:
        refused(directory, IntegrityError, 6)


def test_swapped_segments(directory: Directory) -> None:
    sample(directory, segments=4)
    first, second = directory.segments()[1:3]
    between = first.with_suffix(".x")
    first.rename(between)
    second.rename(first)
    between.rename(second)
    refused(directory, IntegrityError, 6)


def test_a_segment_of_another_history_of_the_same_repository(directory: Directory, tmp_path: Path) -> None:
    """The chain of digests sees a sealed segment that would fit by number, seqno and uuid."""
    (tmp_path / "other").mkdir()
    other = Directory(tmp_path / "other")
    for place, letter in ((directory, b"a"), (other, b"b")):
        history = History()
        with place.open() as journal:
            append(journal, history, Add(1, BLOCK))
            for _ in range(3):
                append(journal, history, Write(1, 0, letter * BLOCK))
                journal.seal()
    shutil.copyfile(other.segments()[1], directory.segments()[1])
    other.close()
    refused(directory, IntegrityError, 6)


def test_another_repository(directory: Directory) -> None:
    sample(directory, segments=2)
    for owner in (False, True):
        with pytest.raises(IntegrityError) as caught:
            directory.open(owner=owner, uuid=bytes(reversed(UUID)))
        assert caught.value.exit_status == 6


def test_a_newer_version_or_feature_is_refused(directory: Directory) -> None:
    sample(directory, segments=2)
    for path in directory.segments():
        for at, value in ((8, 2), (12, 1)):
            header = bytearray(path.read_bytes()[:BLOCK])
            header[at : at + 4] = struct.pack("<I", value)
            header[4092:] = struct.pack("<I", crc32c(bytes(header[:4092])))
            if path == directory.segments()[-1]:
                with Patched(path, 0, bytes(header)):
                    refused(directory, FormatUnknownError, 10)


def test_a_newer_trailer_is_refused(directory: Directory) -> None:
    sample(directory, segments=2)
    path = directory.segments()[0]
    trailer = bytearray(path.read_bytes()[-BLOCK:])
    trailer[8:12] = struct.pack("<I", 2)
    trailer[4092:] = struct.pack("<I", crc32c(bytes(trailer[:4092])))
    with Patched(path, path.stat().st_size - BLOCK, bytes(trailer)):
        refused(directory, FormatUnknownError, 10)


def test_an_unknown_compatible_feature_is_ignored(directory: Directory) -> None:
    history = sample(directory, segments=0)
    path = directory.segments()[0]
    header = bytearray(path.read_bytes()[:BLOCK])
    header[16:20] = struct.pack("<I", 0x80)
    header[4092:] = struct.pack("<I", crc32c(bytes(header[:4092])))
    with Patched(path, 0, bytes(header)), directory.open(owner=False) as reader:
        assert_journal(reader, history, [history.last_seqno])

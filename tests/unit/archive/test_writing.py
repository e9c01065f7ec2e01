"""An archive onto tapes that end anywhere: whatever is broken off is written again, whole, and what stands there is the stream."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.tapes_in_memory import MemoryMedium
from tests.support.volumes_in_memory import TIME_NS, MemorySource, manifest_of
from vsnapfs.archive.coding import Coding, decoded
from vsnapfs.archive.entries import archive_entry
from vsnapfs.archive.index import PieceIndex, crcs_of, damaged_chunks, decode, decode_maps
from vsnapfs.archive.pieces import Flow
from vsnapfs.archive.position import Position, found
from vsnapfs.archive.sums import SummedStream
from vsnapfs.archive.verifying import verify
from vsnapfs.archive.writing import Archiver
from vsnapfs.catalog.file import Place
from vsnapfs.catalog.tapes import Tapes
from vsnapfs.core.errors import CorruptExtentError, IntegrityError, NoSpaceError
from vsnapfs.core.state import Progress
from vsnapfs.core.tapes import ArchiveEntry

pytestmark = pytest.mark.unit

MIB = 1 << 20
PIECE_BYTES = 256 << 10


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Tapes]:
    fd = os.open(tmp_path, os.O_RDONLY)
    with Tapes(Place(fd, tmp_path / "tapes.db"), "5f3a3c1e-0000-4000-8000-00000000000b", write=True) as tapes:
        yield tapes
    os.close(fd)


def sources() -> list[MemorySource]:
    dice = random.Random(9)
    blocks = sorted(dice.sample(range(1024), 600))
    return [
        MemorySource("db0", 4 * MIB, [(block * 4096, 4096) for block in blocks]),
        MemorySource("db1", MIB, [(0, MIB)], seed=4),
    ]


class Ground:
    """One archive, its medium and its catalog."""

    def __init__(self, catalog: Tapes, medium: MemoryMedium, coding: Coding = Coding()) -> None:  # noqa: B008
        self.catalog = catalog
        self.medium = medium
        self.flow = Flow(coding=coding, buffer_bytes=8 << 20)
        self.piece_bytes = PIECE_BYTES
        self.told: list[Progress] = []
        self.entry: ArchiveEntry = archive_entry(self.stream().manifest, "memory")
        catalog.begin_archive(self.entry)

    def stream(self, last: PieceIndex | None = None, volumes_: list[MemorySource] | None = None) -> SummedStream:
        return SummedStream(manifest_of(), list(volumes_ or sources()), {} if last is None else last.digests)

    def write(
        self, start: Position | None = None, volumes_: list[MemorySource] | None = None, *, fresh: bool = False
    ) -> None:
        start = start or Position()
        archiver = Archiver(
            self.stream(start.last, volumes_),
            self.medium,
            self.catalog,
            self.flow,
            piece_bytes=self.piece_bytes,
            clock=lambda: TIME_NS,
        )
        archiver.write(start, self.told.append, fresh=fresh)

    def pieces(self) -> list[tuple[PieceIndex, bytes]]:
        """All that count, by the tapes alone, each compared with its index."""
        read: list[tuple[PieceIndex, bytes]] = []
        for tape in self.medium.loaded:
            for piece, content in zip(tape.contents[1::2], tape.contents[2::2], strict=True):
                index = decode(content)
                assert list(damaged_chunks(memoryview(piece), crcs_of(index), 0, index.chunk_bytes)) == []
                assert (index.tape, index.stored_bytes) == (tape.label and tape.label.label, len(piece))
                read.append((index, piece))
        assert [index.piece for index, _ in read] == list(range(len(read)))
        for (before, _), (index, _) in pairwise(read):
            assert index.previous is not None
            assert (index.previous.sha256, index.previous.file) == (before.sha256, before.file)
        return read

    def check(self) -> list[tuple[PieceIndex, bytes]]:
        """What is on the tapes is the whole stream. Returns the pieces."""
        pieces = self.pieces()
        stream = self.stream()
        plain = b"".join(
            b"".join(bytes(part) for part in decoded([piece], index.compression, None))[index.head_bytes :]
            for index, piece in pieces
        )
        assert plain == b"".join(bytes(part) for part in stream.read(0, stream.length_bytes))
        first, last = pieces[0][0], pieces[-1][0]
        assert (last.last, last.pieces, last.sums) == (True, len(pieces), stream.sums_text().decode())
        for index in (first, last):
            assert index.maps is not None
            assert {name: list(each.data) for name, each in decode_maps(index.maps).items()} == {
                name: list(each.data) for name, each in stream.maps.items()
            }
        known = [(piece.number, piece.file, piece.sha256) for piece in self.catalog.pieces(self.entry.uuid)]
        assert known == [(index.piece, index.file, index.sha256) for index, _ in pieces]
        verify(self.catalog, self.medium, self.entry, self.told.append)
        return pieces


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("coding", [Coding(), Coding("zstd")], ids=["plain", "zstd"])
def test_tapes_may_end_anywhere(catalog: Tapes, coding: Coding, seed: int) -> None:
    dice = random.Random(seed)
    ends = [dice.randrange(300 << 10, 1200 << 10) for _ in range(100)]
    ground = Ground(catalog, MemoryMedium(ends.__getitem__), coding)
    ground.write()
    ground.check()
    full = [tape.label for tape in catalog.tapes() if tape.state == "full"]
    assert full == sorted(tape.label.label for tape in ground.medium.loaded[:-1] if tape.label)


def test_a_tape_that_takes_the_piece_and_not_its_index(catalog: Tapes) -> None:
    """The piece does not count, and is written again on the next one."""
    ends = lambda number: 2 * PIECE_BYTES + 5000 if number == 0 else 100 * MIB  # noqa: E731
    ground = Ground(catalog, MemoryMedium(ends))
    ground.write()
    assert len(ground.medium.loaded[0].contents) == 3
    assert ground.check()[1][0].tape == "M1"


def test_a_piece_whose_index_never_has_room_is_no_endless_search(catalog: Tapes) -> None:
    ground = Ground(catalog, MemoryMedium(lambda _: PIECE_BYTES + 1000))
    with pytest.raises(NoSpaceError, match="no piece has room on tape M0"):
        ground.write()
    assert len(ground.medium.loaded[0].contents) == 1


def test_no_tape_that_holds_a_piece_is_no_endless_search(catalog: Tapes) -> None:
    ground = Ground(catalog, MemoryMedium(lambda _: 1000))
    with pytest.raises(NoSpaceError, match="no piece has room on tape M0"):
        ground.write()
    assert len(ground.medium.loaded) == 1


@pytest.mark.timeout(60)
@pytest.mark.parametrize("piece_bytes", [1_700_000, 100 * MIB])
def test_a_drive_that_wants_a_full_buffer_gets_one(catalog: Tapes, piece_bytes: int) -> None:
    """Pieces and the data end within blocks: what then goes round in the buffer is short."""
    ground = Ground(catalog, MemoryMedium(lambda _: 100 * MIB))
    ground.flow = Flow(buffer_bytes=MIB, fill_bytes=MIB)
    ground.piece_bytes = piece_bytes
    ground.write()
    ground.check()


def test_progress_ends_at_the_length_of_the_stream(catalog: Tapes) -> None:
    ground = Ground(catalog, MemoryMedium(lambda _: 100 * MIB))
    ground.write()
    done = [progress.done for progress in ground.told]
    assert done == sorted(done)
    assert (done[-1], {progress.total for progress in ground.told}) == (ground.stream().length_bytes, {done[-1]})


class Damaged(MemorySource):
    """One that cannot be read from an offset on."""

    def readinto(self, offset_bytes: int, buffer: memoryview) -> None:
        if offset_bytes + len(buffer) > 700 << 10:
            raise CorruptExtentError("volume db1 is damaged", volume="db1")
        super().readinto(offset_bytes, buffer)


def test_a_damaged_volume_ends_it_and_what_is_before_stays(catalog: Tapes) -> None:
    ground = Ground(catalog, MemoryMedium(lambda _: 100 * MIB))
    whole, damaged = sources()[0], Damaged("db1", MIB, [(0, MIB)], seed=4)
    with pytest.raises(CorruptExtentError, match="volume db1 is damaged"):
        ground.write(volumes_=[whole, damaged])
    count = len(ground.pieces())
    assert 8 <= count <= 12
    ground.told.clear()
    position = found(catalog, ground.medium, ground.entry, TIME_NS, fresh=False)
    ground.write(position)
    again = [progress for progress in ground.told if progress.what.startswith("digests of")]
    assert (again[-1].done, again[-1].total) == (position.offset_bytes, position.offset_bytes)
    assert [index.piece for index, _ in ground.check()][:count] == list(range(count))


@pytest.mark.parametrize("lost", [0, 1, 3])
@pytest.mark.parametrize("unknown", [0, 1, 4])
def test_a_resume_goes_by_the_tape(catalog: Tapes, tmp_path: Path, lost: int, unknown: int) -> None:
    """lost: pieces that the tape has lost; unknown: pieces that the catalog does not know."""
    medium = MemoryMedium(lambda _: 100 * MIB)
    ground = Ground(catalog, medium)
    ground.write()
    tape = medium.loaded[0]
    whole = list(tape.contents)
    del tape.contents[1 + 2 * 8 :]
    place = tmp_path / "other"
    place.mkdir()
    fd = os.open(place, os.O_RDONLY)
    with Tapes(Place(fd, place / "tapes.db"), ground.entry.repository, write=True) as other:
        assert tape.label is not None
        other.begin_tape(tape.label)
        other.begin_archive(ground.entry)
        for piece in catalog.pieces(ground.entry.uuid)[: 8 - unknown]:
            other.piece_done(piece, TIME_NS)
        if lost:
            del tape.contents[-2 * lost :]
        ground.catalog = other
        position = found(other, medium, ground.entry, TIME_NS, fresh=False)
        assert position.number == 8 - lost
        ground.piece_bytes = 100 * PIECE_BYTES if lost else PIECE_BYTES  # so that there are fewer now
        ground.write(position)
        ground.check()
    os.close(fd)
    assert lost or tape.contents[1::2] == whole[1::2]


@pytest.mark.parametrize("known", [0, 3])
def test_a_resume_finds_the_piece_that_a_crash_came_behind(tmp_path: Path, catalog: Tapes, known: int) -> None:
    """It is the first on its tape, and the catalog knows that tape alone."""
    medium = MemoryMedium(lambda number: 3 * PIECE_BYTES + 40_000 if known and not number else 100 * MIB)
    ground = Ground(catalog, medium)
    ground.write()
    whole = [list(tape.contents) for tape in medium.loaded]
    tape = medium.loaded[-1]
    del tape.contents[3:]
    place = tmp_path / "other"
    place.mkdir()
    fd = os.open(place, os.O_RDONLY)
    with Tapes(Place(fd, place / "tapes.db"), ground.entry.repository, write=True) as other:
        for each in medium.loaded:
            assert each.label is not None
            other.begin_tape(each.label)
        other.begin_archive(ground.entry)
        for piece in catalog.pieces(ground.entry.uuid)[:known]:
            other.piece_done(piece, TIME_NS)
            other.set_full("uuid-0")
        ground.catalog = other
        position = found(other, medium, ground.entry, TIME_NS, fresh=False)
        assert (position.number, position.tape) == (known + 1, tape)
        ground.write(position)
        ground.check()
    os.close(fd)
    assert [each.contents[1::2] for each in medium.loaded] == [contents[1::2] for contents in whole]


def test_a_piece_that_reads_otherwise_is_found_by_verify(catalog: Tapes) -> None:
    ground = Ground(catalog, MemoryMedium(lambda _: 100 * MIB))
    ground.write()
    tape = ground.medium.loaded[0]
    for number in (1, 2, 7):
        content = tape.contents[number]
        for wrong in (content[:100] + b"\0\1\2" + content[103:], content[:-1], b""):
            tape.contents[number] = wrong
            with pytest.raises(IntegrityError, match=f"piece {(number - 1) // 2} of archive .* was not read back"):
                verify(ground.catalog, ground.medium, ground.entry, ground.told.append)
        tape.contents[number] = content
    ground.check()

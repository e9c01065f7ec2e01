"""Every damage is found, what it costs is named exactly, and what can be made again is."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from tests.support.volumes import content_at, discard, files_of, flip_bit, mark, put
from vsnapfs.core.errors import CorruptExtentError, IntegrityError, ReadOnlyError, VsnapfsError
from vsnapfs.core.findings import Damage
from vsnapfs.core.state import Progress
from vsnapfs.repository.repository import Repository

SIZE = 256 << 10
FIRST = "journal/00000000000000000001.seg"


@pytest.fixture
def history(repository: Repository, path: Path, memory_path: Path) -> Path:
    """Sealed segments, one of them with a needle that later writes cover; a base; a removed volume; merged maps.

    The needle's block of db0 is needed by b1 to b3; half of it is written over at b3 and the rest at b4.
    """
    rng = random.Random(9)
    image = memory_path / "disk.img"
    image.write_bytes(rng.randbytes(16384) + b"base needle" + rng.randbytes(SIZE - 16384 - 11))
    repository.volume_add("db0", size_bytes=SIZE)
    repository.volume_add("ext", primary=image)
    mark(repository, "db0", 0, rng.randbytes(20_000), "b0")
    mark(repository, "db0", 8192, b"needle" + rng.randbytes(4090), "b1")
    put(repository, "db0", 65536, rng.randbytes(4096))
    repository.bookmark_add("b2")
    mark(repository, "db0", 8192, rng.randbytes(2048), "b3")
    discard(repository, "db0", 8192 + 2048, 2048)
    mark(repository, "ext", 4096, rng.randbytes(4096), "b4")
    repository.journal.seal()
    mark(repository, "ext", 16384, rng.randbytes(8192), "b5")
    for _ in range(8):
        put(repository, "db0", 0, rng.randbytes(512))
        repository.journal.seal()
    while repository.journal.merge_maps():
        pass
    repository.volume_at("db0", repository.resolve("b5"))
    repository.close()
    return path


def damages(path: Path, *, read_data: bool = True, repair: bool = False) -> list[Damage]:
    with Repository.open(path, owner=repair) as repository:
        return repository.check(read_data=read_data, repair=repair).damages


def unreadable(path: Path) -> set[str]:
    """POINT/VOLUME of bookmarks that cannot be read whole."""
    found = set()
    with Repository.open(path, owner=False) as reader:
        for bookmark in reader.bookmarks():
            for volume in reader.volumes(reader.resolve(bookmark.name)):
                try:
                    content_at(reader, volume.name, bookmark.name)
                except IntegrityError:
                    found.add(f"{bookmark.name}/{volume.name}")
    return found


def test_a_sound_repository(history: Path) -> None:
    told: list[Progress] = []
    with Repository.open(history, owner=True) as repository:
        check = repository.check(read_data=True, progress=told.append)
        facts = repository.journal.facts()
    assert check.damages == []
    assert (check.segments, check.bases) == (facts.segments, 1)
    assert check.maps == 1
    assert check.read_bytes == facts.journal_bytes + SIZE
    assert [progress.done for progress in told] == list(range(1, facts.segments + 2))
    assert told[-1].total == told[-1].done
    with Repository.open(history, owner=False) as repository:
        assert repository.check().read_bytes == 0


def test_a_damaged_block_costs_the_points_that_need_it(history: Path) -> None:
    at = flip_bit(history / FIRST, b"needle")
    assert unreadable(history) == {"b1/db0", "b2/db0", "b3/db0"}
    before = files_of(history)
    payload = [damage for damage in damages(history) if damage.costs]
    assert files_of(history) == before
    assert len(payload) == 1
    assert (payload[0].file, payload[0].offset_bytes) == (FIRST, at // 4096 * 4096)
    assert (payload[0].derived, payload[0].repaired) == (False, False)
    assert set(payload[0].costs) == {"b1/db0", "b2/db0", "b3/db0"}


def test_a_bookmark_on_the_damaged_write_itself_needs_it(repository: Repository, path: Path) -> None:
    repository.volume_add("db0", size_bytes=SIZE)
    put(repository, "db0", 0, b"needle" + bytes(506))
    seqno = repository.journal.facts().last_seqno
    mark(repository, "db0", 0, b"covered" * 100, "after")
    repository.bookmark_add("exact", at=f"@{seqno}")
    repository.journal.seal()
    repository.close()
    flip_bit(path / FIRST, b"needle")
    assert unreadable(path) == {"exact/db0"}
    assert [damage.costs for damage in damages(path) if damage.costs] == [["exact/db0"]]


def test_a_removed_volume_costs_only_its_own_points(history: Path) -> None:
    with Repository.open(history, owner=True) as repository:
        mark(repository, "db0", 131072, b"last words" * 10, "b6")
        repository.volume_remove("db0")
        repository.bookmark_add("b7")
        repository.journal.seal()
        seqno = repository.bookmark("b6").seqno - 1
    segments = sorted(p for p in (history / "journal").glob("*.seg") if int(p.stem) <= seqno)
    content = bytearray(segments[-1].read_bytes())
    content[content.index(b"last words")] ^= 1
    segments[-1].write_bytes(content)
    assert unreadable(history) == {"b6/db0"}
    assert [damage.costs for damage in damages(history) if damage.costs] == [["b6/db0"]]


def test_a_damaged_base_costs_the_points_that_need_it(history: Path) -> None:
    flip_bit(history / "base/00000002.img", b"base needle")
    expected = {f"b{number}/ext" for number in range(5)}
    assert unreadable(history) == expected
    (damage,) = damages(history)
    assert (damage.file, damage.offset_bytes, damage.derived) == ("base/00000002.img", 16384, False)
    assert set(damage.costs) == expected
    assert damages(history, read_data=False) == []


@pytest.mark.parametrize("name", ["base/00000002.idx", "base/00000002.img"])
def test_a_missing_or_broken_base_costs_all_of_its_volume(history: Path, name: str) -> None:
    path = history / name
    if path.suffix == ".idx":
        path.write_bytes(bytes(4096))
    else:
        path.unlink()
    (damage,) = damages(history, read_data=False)
    assert damage.file == name
    assert set(damage.costs) == unreadable(history) == {f"b{number}/ext" for number in range(6)}


@pytest.mark.parametrize("offset", [0, 70, 100, 4096 + 8])
def test_a_damaged_map_is_made_again(history: Path, offset: int) -> None:
    (path,) = (history / "maps").glob("*.map")
    sound = path.read_bytes()
    content = bytearray(sound)
    content[offset] ^= 4
    path.write_bytes(content)
    assert unreadable(history) == set()
    (found,) = damages(history)
    assert (found.file, found.derived, found.repaired) == (f"maps/{path.name}", True, False)
    (repaired,) = damages(history, repair=True)
    assert repaired.repaired
    assert path.read_bytes() == sound
    assert path.with_name(path.name + ".bad").read_bytes() == bytes(content)
    assert damages(history, repair=True) == []


def test_missing_maps_are_no_damage(history: Path) -> None:
    (path,) = (history / "maps").glob("*.map")
    sound = path.read_bytes()
    path.unlink()
    assert damages(history) == []
    assert damages(history, repair=True) == []
    assert path.read_bytes() == sound


def test_a_catalog_that_tells_otherwise_is_made_again(history: Path) -> None:
    db = apsw.Connection(str(history / "catalog.db"))
    db.execute("UPDATE bookmarks SET note = 'forged' WHERE name = 'b1'")
    db.close()
    with Repository.open(history, owner=True) as repository:
        assert repository.bookmark("b1").note == "forged"
        (found,) = repository.check().damages
        assert (found.file, found.derived, found.repaired) == ("catalog.db", True, False)
        generation = repository.generation
        (repaired,) = repository.check(repair=True).damages
        assert repaired.repaired
        assert repository.bookmark("b1").note == ""
        assert repository.generation != generation
        assert repository.check().damages == []
    assert (history / "catalog.db.bad").exists()


def test_everything_derived_can_be_deleted(history: Path) -> None:
    with Repository.open(history, owner=False) as reader:
        before = {b.name: content_at(reader, "db0", b.name) for b in reader.bookmarks()}
    for derived in (*(history / "maps").iterdir(), *history.glob("catalog.db*")):
        derived.unlink()
    with Repository.open(history, owner=True) as repository:
        assert {b.name: content_at(repository, "db0", b.name) for b in repository.bookmarks()} == before
        assert repository.check(read_data=True, repair=True).damages == []


def test_a_reader_repairs_nothing(history: Path) -> None:
    with Repository.open(history, owner=False) as reader, pytest.raises(ReadOnlyError):
        reader.check(repair=True)


def test_repair_never_touches_segments_and_images(history: Path) -> None:
    flip_bit(history / FIRST, b"needle")
    flip_bit(history / "base/00000002.img", b"base needle")
    kept = {name: content for name, content in files_of(history).items() if name.endswith((".img", ".idx"))}
    sealed = {name: content for name, content in files_of(history).items() if name == FIRST}
    found = damages(history, repair=True)
    assert {damage.repaired for damage in found} == {False}
    after = files_of(history)
    assert all(after[name] == content for name, content in (kept | sealed).items())


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4096])


def exchange(path: Path) -> None:
    later = sorted(path.parent.glob("*.seg"))[3]
    content = later.read_bytes()
    later.write_bytes(path.read_bytes())
    path.write_bytes(content)


def forget(path: Path) -> None:
    sorted(path.parent.glob("*.seg"))[2].unlink()


@pytest.mark.parametrize("spoil", [exchange, forget])
def test_a_broken_chain_is_told_at_the_door(history: Path, spoil: Callable[[Path], None]) -> None:
    spoil(history / FIRST)
    for owner in (False, True):
        with pytest.raises(VsnapfsError) as caught:
            Repository.open(history, owner=owner)
        assert caught.value.exit_status == 6
        assert "\n" not in str(caught.value)


def test_a_sealed_segment_without_its_trailer_still_reads(history: Path) -> None:
    """Its batches say everything; what the footer said is damage that costs no point."""
    cut(history / FIRST)
    assert unreadable(history) == set()
    found = damages(history)
    assert found
    assert {damage.file for damage in found} == {FIRST}
    assert [cost for damage in found for cost in damage.costs] == []


FLIPS = int(os.environ.get("VSNAPFS_TEST_FLIPS", "40"))


def test_any_flipped_bit_of_a_segment_is_found(history: Path) -> None:
    """And the points that are said to be lost are exactly those that cannot be read."""
    rng = random.Random(4)
    sound = (history / FIRST).read_bytes()
    for _ in range(FLIPS):
        at = rng.randrange(len(sound))
        content = bytearray(sound)
        content[at] ^= 1 << rng.randrange(8)
        (history / FIRST).write_bytes(content)
        try:
            found = damages(history)
        except IntegrityError:
            continue  # told at the door, with its place
        assert found, f"a flipped bit at {at} was not found"
        assert unreadable(history) == {cost for damage in found for cost in damage.costs}, f"bit at {at}"


def test_reading_damage_names_the_place(history: Path) -> None:
    at = flip_bit(history / FIRST, b"needle")
    with Repository.open(history, owner=False) as reader:
        with reader.view("db0", reader.resolve("b2")) as view, pytest.raises(CorruptExtentError) as caught:
            view.read(8192, 4096)
        assert (caught.value.segment, caught.value.offset_bytes) == (1, at // 4096 * 4096)


def test_the_file_that_tells_of_compactions(history: Path) -> None:
    """Derived: a reader says that it is damaged, and the next owner writes it again."""
    file = history / "journal/generation"
    whole = file.read_bytes()
    for damaged in (whole[:-1], whole + b"\0", bytes([whole[0] ^ 1]) + whole[1:], whole[:-1] + b"\1"):
        file.write_bytes(damaged)
        assert [(damage.file, damage.derived, damage.costs) for damage in damages(history)] == [
            ("journal/generation", True, [])
        ]
    assert damages(history, repair=True) == []
    assert file.read_bytes() == whole
    file.unlink()
    assert damages(history) == []

"""Damage of branches, and damage that costs them something: found, named, and nothing else is touched by it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.support.files import opened, pwrite_all
from tests.support.scratch import BLOCK_BYTES, branch_opened, branch_write
from vsnapfs.core.errors import BusyError, CorruptExtentError, IntegrityError, NoSpaceError
from vsnapfs.core.findings import Damage
from vsnapfs.core.state import Progress
from vsnapfs.repository.repository import Repository, unopened

pytestmark = pytest.mark.unit

MIB = 1 << 20


@pytest.fixture
def world(path: Path) -> Path:
    """Branches ``x``, ``y`` on it, and ``z`` beside; each has written its letter to a block of its own. Closed."""
    with Repository.open(path, owner=True) as repository:
        repository.volume_add("db", size_bytes=MIB)
        repository.journal.write(1, 0, b"p" * BLOCK_BYTES)
        repository.bookmark_add("a")
        for block, (name, source) in enumerate((("x", "a"), ("y", "branch:x"), ("z", "a")), 1):
            repository.branch_add(name, source)
            branch_write(repository, name, block, name.encode())
    return path


def layer_files(path: Path, name: str, layer: int) -> Path:
    number = json.loads((path / f"branches/{name}.json").read_text())["layers"][layer]
    return path / f"branches/layers/{number:08x}"


def spoil(file: Path, offset: int) -> None:
    with opened(file, os.O_RDWR) as fd:
        pwrite_all(fd, bytes([os.pread(fd, 1, offset)[0] ^ 1]), offset)


def found(path: Path, *, read_data: bool = True) -> list[Damage]:
    """The same by a reader and by the owner."""
    told = []
    for owner in (False, True):
        with Repository.open(path, owner=owner) as repository:
            told.append(repository.check_branches(read_data=read_data))
            assert told[-1].branches == 3
    assert told[0] == told[1]
    return told[0].damages


def test_sound_ones(world: Path) -> None:
    assert found(world) == []


def test_a_block_of_one(world: Path) -> None:
    data = layer_files(world, "z", -1) / "00000001.data"
    spoil(data, 100)
    (damage,) = found(world)
    assert (damage.file, damage.costs, damage.derived) == (str(data.relative_to(world)), ["branch:z/db"], False)
    assert found(world, read_data=False) == []
    with Repository.open(world, owner=True) as repository:
        with branch_opened(repository, "z") as branch:
            assert branch.read(1, 0, BLOCK_BYTES) == b"p" * BLOCK_BYTES
            with pytest.raises(CorruptExtentError):
                branch.read(1, 3 * BLOCK_BYTES, 1)
        with branch_opened(repository, "y") as branch:
            assert branch.read(1, BLOCK_BYTES, 2 * BLOCK_BYTES) == b"x" * BLOCK_BYTES + b"y" * BLOCK_BYTES


def test_a_block_that_two_share_is_told_once_with_both(world: Path) -> None:
    spoil(layer_files(world, "y", 0) / "00000001.data", 100)
    (damage,) = found(world)
    assert damage.costs == ["branch:x/db", "branch:y/db"]


@pytest.mark.parametrize("name", ["00000001.log", "00000001.data"])
def test_a_file_that_is_missing(world: Path, name: str) -> None:
    (layer_files(world, "z", -1) / name).unlink()
    (damage,) = found(world, read_data=False)
    assert (damage.file, damage.costs) == ("branches/z.json", ["branch:z/db"])
    with Repository.open(world, owner=True) as repository:
        assert [branch.name for branch in repository.branches() if branch.problem] == ["z"]
        with pytest.raises(IntegrityError):
            repository.branch_file("z", "db")


def test_the_head_of_a_log(world: Path) -> None:
    spoil(layer_files(world, "z", -1) / "00000001.log", 20)
    (damage,) = found(world, read_data=False)
    assert damage.costs == ["branch:z/db"]


def test_a_check_ends_with_the_repository(world: Path) -> None:
    def give_up(_: Progress) -> None:
        raise BusyError("it is being closed")

    with Repository.open(world, owner=True) as repository, pytest.raises(BusyError):
        repository.check_branches(read_data=True, progress=give_up)


def test_a_damage_of_the_journal_costs_the_branches_above_it(world: Path) -> None:
    """Those on points that need the block, also where they have no bookmark any more."""
    with Repository.open(world, owner=True) as repository:
        repository.bookmark_remove("a")
        repository.journal.write(1, 0, b"q" * BLOCK_BYTES)
        repository.journal.commit()
        repository.branch_add("late", "-0s")
        repository.branch_remove("z")
    segment = next((world / "journal").glob("*.seg"))
    spoil(segment, segment.read_bytes().index(b"p" * BLOCK_BYTES) + 5)
    with Repository.open(world, owner=False) as reader:
        (damage,) = reader.check(read_data=True).damages
    assert damage.costs == ["branch:x/db", "branch:y/db"]


def test_branches_leave_the_journal_its_room(path: Path) -> None:
    """They end before the disk counts as full for the journal."""
    disk = os.statvfs(path)
    reserve_bytes = disk.f_bfree * disk.f_frsize * 6 // 10
    (path / "vsnapfs.toml").write_text(f'[journal]\nreserve = "{reserve_bytes}"\n')
    with Repository.open(path, owner=True) as repository:
        repository.volume_add("db", size_bytes=MIB)
        repository.branch_add("x", "@1")
        with pytest.raises(NoSpaceError):
            branch_write(repository, "x", 0, b"x")
        with branch_opened(repository, "x") as branch:
            branch.zero(1, 0, BLOCK_BYTES)
            assert branch.read(1, 0, BLOCK_BYTES) == bytes(BLOCK_BYTES)
        repository.journal.write(1, 0, b"j" * BLOCK_BYTES)
        repository.bookmark_add("a")
    (path / "vsnapfs.toml").write_text("")
    with Repository.open(path, owner=True) as repository:
        branch_write(repository, "x", 0, b"x")


def test_a_long_check_can_be_given_up_on_its_way_and_misses_nothing(path: Path) -> None:
    with Repository.open(path, owner=True) as repository:
        repository.volume_add("db", size_bytes=160 * MIB)
        repository.branch_add("x", "@1")
        with branch_opened(repository, "x") as branch:
            for at in range(0, 150 * MIB, MIB):
                branch.write(1, at, bytes([at // MIB + 1]) * MIB)
            branch.sync()
        offsets = [10 * MIB, 100 * MIB, 149 * MIB]
        for offset in offsets:
            spoil(layer_files(path, "x", -1) / "00000001.data", offset)
        said: list[Progress] = []
        told = repository.check_branches(read_data=True, progress=said.append)
        assert [damage.offset_bytes for damage in told.damages] == offsets
        assert len(said) > 1 + len(offsets), "once at the branch, at each damage, and in between"

        def give_up(progress: Progress) -> None:
            if len(said) == 2:
                raise BusyError("it is being closed")
            said.append(progress)

        said.clear()
        with pytest.raises(BusyError):
            repository.check_branches(read_data=True, progress=give_up)


def test_no_branch_is_made_on_what_cannot_be_read(path: Path, memory_path: Path) -> None:
    image = memory_path / "image"
    image.write_bytes(b"i" * MIB)
    with Repository.open(path, owner=True) as repository:
        repository.volume_add("db", primary=image)
        repository.bookmark_add("a")
    (base,) = (path / "base").glob("*.img")
    base.rename(memory_path / "aside")
    with Repository.open(path, owner=True) as repository:
        with pytest.raises(IntegrityError, match=rf"base/{base.name} is missing"):
            repository.branch_add("x", "a")
        assert repository.branches() == []
        assert list((path / "branches/layers").glob("0*")) == []


def test_a_journal_that_ends_early_costs_the_branches_behind(path: Path) -> None:
    """Also where nothing of it can be opened."""
    with Repository.open(path, owner=True) as repository:
        repository.volume_add("db", size_bytes=MIB)
        repository.branch_add("early", "@1")
        for letter in (b"p", b"q", b"r"):
            repository.journal.write(1, 0, letter * BLOCK_BYTES)
            repository.bookmark_add(letter.decode())
        repository.branch_add("late", "q")
    segment = next((path / "journal").glob("*.seg"))
    spoil(segment, segment.read_bytes().index(b"q" * BLOCK_BYTES) - 100)
    with Repository.open(path, owner=False, sound_part=True) as reader:
        (damage,) = reader.check(read_data=True).damages
        assert (damage.lost_first_seqno or 0) > 1
    assert damage.costs == ["q/db", "r/db", "branch:late/db"]
    segment.rename(path / "aside")
    with pytest.raises(IntegrityError) as error, Repository.open(path, owner=False, sound_part=True):
        pass
    (damage,) = unopened(path, error.value).damages
    assert damage.costs == ["p/db", "q/db", "r/db", "branch:early/db", "branch:late/db"]

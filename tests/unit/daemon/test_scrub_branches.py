"""The server's own reading of everything reads what was written to branches too, while they are used, copied and removed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.files import opened, pwrite_all
from tests.support.scratch import BLOCK_BYTES, branch_opened, branch_write
from tests.support.waiting import eventually
from vsnapfs.core.findings import Damage
from vsnapfs.daemon.scrub import Scrubber
from vsnapfs.repository import branch_table, branches
from vsnapfs.repository.repository import Repository
from vsnapfs.repository.units import Kind

pytestmark = pytest.mark.unit

MIB = 1 << 20
QUICK_S = 0.2


@pytest.fixture
def repository(memory_path: Path) -> Iterator[Repository]:
    """Branch ``old``, ``new`` made of it, and ``other``; each has written its letter to a block of its own."""
    path = memory_path / "repository"
    Repository.create(path)
    with Repository.open(path, owner=True) as repository:
        repository.volume_add("db", size_bytes=128 * MIB)
        repository.bookmark_add("a")
        for block, (name, source) in enumerate((("old", "a"), ("new", "branch:old"), ("other", "a")), 1):
            repository.branch_add(name, source)
            branch_write(repository, name, block, name[:1].encode())
            with branch_opened(repository, name) as branch:
                branch.sync()
        yield repository


@pytest.fixture
def scrubbed(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scrubber]:
    monkeypatch.setattr("vsnapfs.daemon.scrub.AGAIN_S", QUICK_S)
    scrubber = Scrubber(repository, QUICK_S)
    scrubber.start()
    eventually(lambda: repository.scrub_progress().last_ended, "a pass")
    yield scrubber
    scrubber.stop()


@pytest.fixture
def closed_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody uses is closed when another is used."""
    monkeypatch.setattr(branch_table, "IDLE_MAX", 1)


def data(repository: Repository, name: str, layer: int) -> Path:
    number = branches.find(repository._parts, name).layers[layer]
    return repository.path / f"branches/layers/{number:08x}/00000001.data"


def spoil(file: Path, offset: int = 100) -> None:
    with opened(file, os.O_RDWR) as fd:
        pwrite_all(fd, bytes([os.pread(fd, 1, offset)[0] ^ 1]), offset)


def told(repository: Repository) -> list[Damage]:
    return repository.status().scrub.damages


@pytest.mark.usefixtures("scrubbed")
class TestDamage:
    def test_of_one_is_told_until_it_is_found_gone(self, repository: Repository) -> None:
        file = data(repository, "other", -1)
        spoil(file)
        (damage,) = eventually(lambda: told(repository), "the damage")
        assert (damage.file, damage.costs) == (str(file.relative_to(repository.path)), ["branch:other/db"])
        assert any("costs branch:other/db" in problem for problem in repository.status().problems)
        spoil(file)
        eventually(lambda: not told(repository), "that it is gone")
        assert [event.detail["file"] for event in repository.events(kinds=["damage_found"])] == [damage.file]

    def test_of_a_layer_that_two_have_is_told_once_with_both(self, repository: Repository) -> None:
        spoil(data(repository, "new", 0))
        eventually(lambda: [len(damage.costs) for damage in told(repository)] == [2], "the damage, with both")
        assert sorted(told(repository)[0].costs) == ["branch:new/db", "branch:old/db"]

    def test_goes_with_its_branch(self, repository: Repository) -> None:
        spoil(data(repository, "other", -1))
        eventually(lambda: told(repository), "the damage")
        repository.branch_remove("other")
        assert told(repository) == []

    def test_of_one_that_cannot_be_opened(self, repository: Repository, closed_soon: None) -> None:
        data(repository, "other", -1).with_suffix(".log").unlink()
        (damage,) = eventually(lambda: told(repository), "the damage")
        assert (damage.file, damage.costs) == ("branches/other.json", ["branch:other/db"])

    def test_of_a_file_that_cannot_be_understood(self, repository: Repository) -> None:
        (repository.path / "branches/other.json").write_bytes(b"{")
        (damage,) = eventually(lambda: told(repository), "the damage")
        assert (damage.file, damage.costs) == ("branches/other.json", ["branch:other"])


def test_each_branch_is_a_unit(repository: Repository) -> None:
    with Repository.open(repository.path, owner=False) as reader:
        units = {unit.number: unit.held_bytes for unit in reader.scrub_units() if unit.kind == Kind.BRANCH}
    assert units.keys() == {branch.id for branch in repository.branches()}
    assert units[repository.branch("other").id] >= 2 * BLOCK_BYTES, "its block, and the log of it"
    assert units[repository.branch("new").id] > units[repository.branch("old").id], "what it shares, and its own"


class TestMeanwhile:
    """A branch is not held while the scrub rests."""

    def meet(self, repository: Repository, meanwhile: Callable[[], object]) -> tuple[list[Damage], int]:
        """What reading ``other`` finds, and how often it rested; before the first rest ends something happens."""
        with branch_opened(repository, "other") as branch:
            for at in range(0, 70 * MIB, MIB):
                branch.write(1, at, bytes([1 + at // MIB]) * MIB)
            branch.sync()
        rests: list[int] = []

        def rest() -> None:
            if not rests:
                meanwhile()
            rests.append(1)

        unit = next(unit for unit in repository.scrub_units() if unit.number == repository.branch("other").id)
        return repository.scrub_branch(unit, rest), len(rests)

    def test_it_is_removed(self, repository: Repository) -> None:
        assert self.meet(repository, lambda: repository.branch_remove("other"))[0] == []

    def test_it_is_copied_and_written_to(self, repository: Repository) -> None:
        def change() -> None:
            repository.branch_add("copy", "branch:other")
            for block in range(64):
                branch_write(repository, "other", block, b"w")
            with branch_opened(repository, "other") as branch:
                branch.sync()

        damages, rests = self.meet(repository, change)
        assert damages == []
        assert rests > 1

    def test_what_is_damaged_behind_the_rest_is_found(self, repository: Repository) -> None:
        file = data(repository, "other", -1)
        damages, _ = self.meet(repository, lambda: spoil(file, 69 * MIB))
        assert [damage.file for damage in damages] == [str(file.relative_to(repository.path))]


def test_it_ends_in_the_middle_of_a_branch(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vsnapfs.daemon.scrub.FIRST_S_MAX", 0)
    began = threading.Event()
    real = Repository.scrub_branch

    def noted(self: Repository, *arguments: object) -> list[Damage]:
        began.set()
        return real(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Repository, "scrub_branch", noted)
    monkeypatch.setattr(Repository, "scrub_unit", lambda *_: [])
    monkeypatch.setattr(Scrubber, "_rest_after_piece", lambda self: began.is_set() and self._rest(1e6))
    scrubber = Scrubber(repository, QUICK_S)
    scrubber.start()
    assert began.wait(30)
    scrubber.stop()
    assert repository.scrub_progress().found == []
    assert repository.scrub_progress().next.kind == Kind.BRANCH

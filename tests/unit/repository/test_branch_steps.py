"""Branches that are being made, copied and removed: killed before any step, failed at one, asked by many at once. A branch is
whole or not there, keeps what was written to it, and nothing is left that nobody needs."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.scratch import BLOCK_BYTES, branch_opened, branch_write
from tests.unit.repository import test_crash_steps as steps
from vsnapfs.binding.branch import Branch as OpenBranch
from vsnapfs.core.errors import IntegrityError, StoreError, VsnapfsError
from vsnapfs.repository import branch_files, branch_table
from vsnapfs.repository.layout import Layout
from vsnapfs.repository.repository import Repository

pytestmark = [pytest.mark.unit, pytest.mark.timeout(600)]

MIB = 1 << 20
STEPS: list[tuple[type, str]] = [
    (Layout, "open"),
    (Layout, "make_directory"),
    (Layout, "rename"),
    (Layout, "remove"),
    (Layout, "remove_directory"),
    (Layout, "sync"),
    (OpenBranch, "volume"),
    (OpenBranch, "write"),
    (OpenBranch, "sync"),
    (OpenBranch, "freeze"),
    (OpenBranch, "go_on"),
]


def letters(repository: Repository, name: str) -> str:
    """The first byte of each of the first blocks."""
    with branch_opened(repository, name) as branch:
        return "".join(chr(branch.read(1, block * BLOCK_BYTES, 1)[0] or ord(".")) for block in range(6))


def layers(path: Path) -> set[int]:
    return {int(entry.name, 16) for entry in (path / "branches/layers").iterdir() if entry.is_dir()}


def named(path: Path) -> set[int]:
    return {layer for file in (path / "branches").glob("*.json") for layer in json.loads(file.read_text())["layers"]}


@pytest.fixture
def world(memory_path: Path) -> Path:
    return make_world(memory_path / "repository")


def make_world(path: Path) -> Path:
    """A repository with a branch ``x`` on a volume of ``p``s, with an ``x`` in block 1."""
    Repository.create(path)
    with Repository.open(path, owner=True) as repository:
        repository.volume_add("db", size_bytes=MIB)
        for block in range(6):
            repository.journal.write(1, block * BLOCK_BYTES, b"p" * BLOCK_BYTES)
        repository.bookmark_add("a")
        repository.branch_add("x", "a")
        branch_write(repository, "x", 1, b"x")
    return path


def add_while_written(repository: Repository) -> None:
    """Somebody writes between the first sync of a copy and the hold. For a process of its own: nothing is put back."""
    real = OpenBranch.sync

    def sync(branch: OpenBranch, volume: int = 0) -> None:
        real(branch, volume)
        branch.write(1, 4 * BLOCK_BYTES, b"w" * BLOCK_BYTES)

    setattr(OpenBranch, "sync", sync)  # noqa: B010  to a method mypy lets nobody assign
    repository.branch_add("y", "branch:x")


def write_and_add(repository: Repository) -> None:
    branch_write(repository, "x", 2, b"2")
    repository.branch_add("y", "branch:x")
    branch_write(repository, "x", 3, b"3")
    branch_write(repository, "y", 3, b"y")


def copy_and_remove(repository: Repository) -> None:
    repository.branch_add("y", "branch:x")
    repository.branch_remove("x")


CHANGES: dict[str, Callable[[Repository], object]] = {
    "add on a point": lambda repository: repository.branch_add("y", "a"),
    "add on a branch": lambda repository: repository.branch_add("y", "branch:x"),
    "write, and add on it": write_and_add,
    "add on a branch that is written to": add_while_written,
    "remove": lambda repository: repository.branch_remove("x"),
    "copy and remove the older": copy_and_remove,
    "report": lambda repository: repository.branch_report("x", {"a": 1}),
}
POSSIBLE = {
    "add on a point": [{"x": "pxpppp"}, {"x": "pxpppp", "y": "pppppp"}],
    "add on a branch": [{"x": "pxpppp"}, {"x": "pxpppp", "y": "pxpppp"}],
    "write, and add on it": [
        {"x": "pxpppp"},
        {"x": "px2ppp"},
        {"x": "px2ppp", "y": "px2ppp"},
        {"x": "px23pp", "y": "px2ppp"},
        {"x": "px23pp", "y": "px2ypp"},
    ],
    "add on a branch that is written to": [
        {"x": "pxpppp"},
        {"x": "pxppwp"},
        {"x": "pxppwp", "y": "pxppwp"},
    ],
    "remove": [{"x": "pxpppp"}, {}],
    "copy and remove the older": [{"x": "pxpppp"}, {"x": "pxpppp", "y": "pxpppp"}, {"y": "pxpppp"}],
    "report": [{"x": "pxpppp"}],
}


@pytest.mark.parametrize("change", CHANGES)
def test_killed_before_any_step(world: Path, memory_path: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    monkeypatch.setattr(steps, "STEPS", STEPS)
    step, seen = 0, []
    killed = True
    while killed:
        step += 1
        path = memory_path / f"try{step}"
        shutil.copytree(world, path)
        killed = steps.killed_at(step, path, CHANGES[change])
        with Repository.open(path, owner=False) as reader:
            list(reader.branches())
        with Repository.open(path, owner=True) as repository:
            found = repository.branches()
            assert [branch.problem for branch in found] == [""] * len(found), step
            seen.append({branch.name: letters(repository, branch.name) for branch in found})
            assert seen[-1] in POSSIBLE[change], step
            assert layers(path) == named(path), step
            assert not list((path / "branches").rglob("*.part")), step
            assert repository.check_branches(read_data=True).damages == []
            if found:
                branch_write(repository, found[-1].name, 5, b"5")
                repository.branch_add("z", f"branch:{found[-1].name}")
                assert letters(repository, "z")[5] == "5"
        shutil.rmtree(path)
    assert step > 3
    assert seen[0] == POSSIBLE[change][0]
    assert seen[-1] == POSSIBLE[change][-1], "the child that gets through"


class TestFailure:
    def fail(self, *_: Any) -> None:
        raise StoreError("no")

    def test_a_freeze_that_fails_changes_nothing(self, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with Repository.open(world, owner=True) as repository:
            before = named(world)
            with monkeypatch.context() as patch:
                patch.setattr(OpenBranch, "freeze", self.fail)
                with pytest.raises(StoreError, match="no"):
                    repository.branch_add("y", "branch:x")
            assert named(world) == before == layers(world)
            branch_write(repository, "x", 2, b"2")
            repository.branch_add("y", "branch:x")
            branch_write(repository, "x", 3, b"3")
            assert (letters(repository, "x"), letters(repository, "y")) == ("px23pp", "px2ppp")
        with Repository.open(world, owner=True) as repository:
            assert (letters(repository, "x"), letters(repository, "y")) == ("px23pp", "px2ppp")

    def test_one_that_cannot_be_taken_back_either_is_mended_by_the_next_start(
        self, world: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with Repository.open(world, owner=True) as repository:

            def fail(_: OpenBranch, __: int) -> None:
                monkeypatch.setattr(branch_files, "write", self.fail)
                raise StoreError("first")

            with monkeypatch.context() as patch:
                patch.setattr(OpenBranch, "freeze", fail)
                with pytest.raises(StoreError, match="no"):
                    repository.branch_add("y", "branch:x")
            monkeypatch.undo()
            assert "the next start of the server mends it" in repository.branch("x").problem
            with pytest.raises(IntegrityError):
                repository.branch_add("y", "branch:x")
            repository.branch_add("z", "a")
            assert named(world) <= layers(world)
        with Repository.open(world, owner=True) as repository:
            assert [branch.problem for branch in repository.branches()] == ["", ""]
            assert letters(repository, "x") == "pxpppp"
            repository.branch_add("y", "branch:x")
            assert letters(repository, "y") == "pxpppp"


def test_a_reader_sees_what_was_written(world: Path) -> None:
    with Repository.open(world, owner=False) as reader:
        assert letters(reader, "x") == "pxpppp"
        with pytest.raises(VsnapfsError):
            branch_write(reader, "x", 2, b"2")
    with Repository.open(world, owner=True) as repository:
        assert letters(repository, "x") == "pxpppp"


def test_so_many_are_open_at_once_and_no_more(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(branch_table, "IDLE_MAX", 2)
    with Repository.open(world, owner=True) as repository:
        names = [f"b{number}" for number in range(8)]
        for number, name in enumerate(names):
            repository.branch_add(name, "branch:x")
            branch_write(repository, name, 2, str(number).encode())
        slots = repository._parts.branches._slots.values()
        assert sum(slot.branch is not None for slot in slots) <= 3
        for number, name in enumerate(names):
            assert letters(repository, name) == f"px{number}ppp"


def test_asked_by_many_at_once(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever lists, writes and copies meets no half of a branch, while others come and go."""
    monkeypatch.setattr(branch_table, "IDLE_MAX", 1)
    failures: list[BaseException] = []
    with Repository.open(world, owner=True) as repository:

        def come_and_go(name: str) -> None:
            for _ in range(6):
                repository.branch_add(name, "branch:x")
                branch_write(repository, name, 2, name.encode())
                assert letters(repository, name) == f"px{name}ppp"
                repository.branch_remove(name)

        def look() -> None:
            for _ in range(20):
                assert [branch.problem for branch in repository.branches() if branch.problem] == []

        def run(work: Callable[[], None]) -> None:
            try:
                work()
            except BaseException as failure:  # noqa: BLE001  raised by the test
                failures.append(failure)

        works = [look, *(lambda name=name: come_and_go(name) for name in "abc")]
        threads = [threading.Thread(target=run, args=(work,)) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        assert [branch.name for branch in repository.branches()] == ["x"]
        assert layers(world) == named(world)

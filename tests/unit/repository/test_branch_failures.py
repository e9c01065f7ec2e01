"""Branches that are being made, copied and removed on storage that fails: once or for good, before a step or after it has had its effect.
Whoever asked is told, what was written is kept, and no file names a layer that is not there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.devices import mounted
from tests.support.scratch import branch_write
from tests.unit.repository.test_branch_steps import CHANGES, POSSIBLE, layers, letters, make_world, named
from vsnapfs.binding.branch import Branch as OpenBranch
from vsnapfs.core.errors import NoSpaceError, StoreError, VsnapfsError
from vsnapfs.repository.layout import Layout
from vsnapfs.repository.repository import Repository

pytestmark = [pytest.mark.unit, pytest.mark.timeout(600)]

SINGLE = ["add on a point", "add on a branch", "remove", "report"]
STEPS: list[tuple[type, str]] = [
    *((Layout, name) for name in ("open", "make_directory", "rename", "remove", "remove_directory", "sync")),
    (OpenBranch, "volume"),
    (OpenBranch, "sync"),
    (OpenBranch, "freeze"),
]
ALL_OR_NOTHING = "freeze"
"""What fails has had no effect."""


class Failing:
    """The ``step``-th step fails, before or after it is done; if ``for_good`` all that follow do too."""

    def __init__(self, step: int, *, after: bool, for_good: bool) -> None:
        self._left, self._after, self._for_good = step, after, for_good
        self.failed = False

    @contextmanager
    def on(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for owner, name in STEPS:
                patch.setattr(owner, name, self._counted(getattr(owner, name)))
            yield

    def _counted(self, real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **options: object) -> object:
            self._left -= 1
            fails = self._left == 0 or (self._left < 0 and self._for_good)
            self.failed |= fails
            has_effect = self._after and real.__name__ != ALL_OR_NOTHING
            done = None if fails and not has_effect else real(*args, **options)
            if fails:
                raise StoreError("the disk says no")
            return done

        return call


def seen(repository: Repository) -> dict[str, str]:
    return {branch.name: letters(repository, branch.name) for branch in repository.branches() if branch.problem == ""}


def used_on(repository: Repository) -> dict[str, str]:
    """Each is written to and copied, and no copy sees what is written later. Returns what each sound one holds then."""
    for number, name in enumerate(seen(repository)):
        branch_write(repository, name, 5, b"5")
        repository.branch_add(f"copy{number}", f"branch:{name}")
        branch_write(repository, name, 5, b"6")
        assert letters(repository, f"copy{number}")[5] == "5"
        repository.branch_remove(f"copy{number}")
    return seen(repository)


@pytest.mark.parametrize("for_good", [False, True], ids=["once", "for good"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("change", SINGLE)
def test_storage_that_fails_at_a_step(memory_path: Path, change: str, after: bool, for_good: bool) -> None:
    world = make_world(memory_path / "world")
    step = 0
    failing = None
    while failing is None or failing.failed:
        step += 1
        failing = Failing(step, after=after, for_good=for_good)
        path = memory_path / f"try{step}"
        shutil.copytree(world, path)
        with Repository.open(path, owner=True) as repository:
            failed = False
            with failing.on():
                try:
                    CHANGES[change](repository)
                except VsnapfsError:
                    failed = True
            assert not failed or failing.failed
            assert all(POSSIBLE[change][0][name] == seen(repository)[name] for name in seen(repository) if name != "y")
            held = used_on(repository)
        with Repository.open(path, owner=True) as repository:
            found = repository.branches()
            assert [branch.problem for branch in found] == [""] * len(found), step
            assert held.items() <= seen(repository).items(), step
            assert seen(repository).keys() | held.keys() <= {"x", "y"}
            assert layers(path) == named(path), step
            assert repository.check_branches(read_data=True).damages == []
            if failed:  # whoever was told so does it again
                with suppress(VsnapfsError):
                    CHANGES[change](repository)
            assert seen(repository).keys() == POSSIBLE[change][-1].keys()
        shutil.rmtree(path)
    assert step > 3


@pytest.mark.requires_root
def test_a_disk_without_any_room(memory_path: Path) -> None:
    """Branches are still there to be read, and to be removed, which gives room back."""
    with mounted(Path("tmpfs"), memory_path / "small", options="size=4M", kind="tmpfs") as top:
        path = make_world(top / "r")
        with Repository.open(path, owner=True) as repository:
            repository.branch_add("y", "branch:x")
            repository.branch_remove("y")
        left = os.statvfs(top)
        (top / "ballast").write_bytes(bytes(left.f_bavail * left.f_frsize))
        assert os.statvfs(top).f_bavail == 0
        with Repository.open(path, owner=True) as repository:
            assert seen(repository) == POSSIBLE["remove"][0]
            with pytest.raises(NoSpaceError):
                repository.branch_add("y", "branch:x")
            repository.branch_remove("x")
            assert os.statvfs(top).f_bavail > 0
            assert repository.branches() == []

"""Killed before any step of a change, a repository opens again by itself, with the change done or not begun.

A step is a call that leaves something behind: of the directory, of the journal, of a base. A child process makes the
change and ends at once before its n-th step; the parent opens what is left, for every n until the child gets through.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.support.volumes import content_at, files_of, mark
from vsnapfs.binding import BaseBuilder, Journal
from vsnapfs.repository.layout import Layout
from vsnapfs.repository.repository import Repository

SIZE = 128 << 10
KILLED = 77
STEPS: list[tuple[type, str]] = [
    (Layout, "open"),
    (Layout, "rename"),
    (Layout, "remove"),
    (BaseBuilder, "take"),
    (BaseBuilder, "finish"),
    (Journal, "write"),
    (Journal, "zero"),
    (Journal, "event"),
    (Journal, "commit"),
    (Journal, "attach_primary"),
    (Journal, "detach_primary"),
]


def killed_at(step: int, path: Path, change: Callable[[Repository], object]) -> bool:
    """Make the change in a child that ends before its ``step``-th step. False: it got through."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            repository = Repository.open(path, owner=True)
            arm(step)
            change(repository)
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) in (0, KILLED)
    return os.waitstatus_to_exitcode(status) == KILLED


def arm(step: int) -> None:
    left = [step]

    def counted(real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **options: object) -> object:
            left[0] -= 1
            if left[0] == 0:
                os._exit(KILLED)
            return real(*args, **options)

        return call

    for owner, name in STEPS:
        setattr(owner, name, counted(getattr(owner, name)))


class World:
    """A repository with a volume, a bookmark, and images beside it; copied for each try."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.repository = path / "repository"
        self.image = path / "disk.img"
        self.second = path / "second.img"

    def make(self) -> None:
        rng = random.Random(1)
        self.image.write_bytes(rng.randbytes(SIZE // 2) + bytes(SIZE // 2))
        self.second.write_bytes(bytes(4096) + rng.randbytes(SIZE))
        Repository.create(self.repository)
        with Repository.open(self.repository, owner=True) as repository:
            repository.volume_add("db0", size_bytes=SIZE)
            mark(repository, "db0", 0, rng.randbytes(20_000), "before")

    def copy(self, to: Path) -> World:
        shutil.copytree(self.path, to)
        return World(to)


CHANGES: dict[str, Callable[[World, Repository], object]] = {
    "add thin": lambda world, repository: repository.volume_add("new", size_bytes=SIZE),
    "add existing": lambda world, repository: repository.volume_add("new", primary=world.image),
    "remove": lambda world, repository: repository.volume_remove("db0"),
    "grow": lambda world, repository: repository.volume_resize("db0", 2 * SIZE),
    "shrink": lambda world, repository: repository.volume_resize("db0", 4096),
    "import": lambda world, repository: repository.import_images({"new": world.image, "db0": world.second}, "after"),
    "bookmark": lambda world, repository: repository.bookmark_add("after"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_killed_before_any_step(name: str, memory_path: Path) -> None:
    world = World(memory_path / "world")
    world.path.mkdir()
    world.make()
    step, killed = 0, True
    while killed:
        step += 1
        tried = world.copy(memory_path / f"try{step}")
        killed = killed_at(step, tried.repository, partial(CHANGES[name], tried))
        check_whole(tried, name)
        shutil.rmtree(tried.path)
    assert step > 2


def check_whole(world: World, name: str) -> None:
    """It opens, says it is well, reads right, and the change can be made, or had been made, whole."""
    with Repository.open(world.repository, owner=True) as repository:
        assert repository.status().problems == []
        assert repository.check(read_data=True).damages == []
        assert len(content_at(repository, "db0", "before")) == SIZE
        again(world, repository, name)
        for volume in repository.volumes():
            if volume.primary_path is not None:
                now = content_at(repository, volume.name, "-0s")
                assert Path(volume.primary_path).read_bytes() == now, "the primary is as the journal says"
        assert [file for file in files_of(world.repository) if file.endswith(".part")] == []


def again(world: World, repository: Repository, name: str) -> None:
    """Make the change if it is not there yet; then it is, and right."""
    if not is_done(repository, name):
        CHANGES[name](world, repository)
    assert is_done(repository, name)
    if name == "add thin":
        assert content_at(repository, "new", "-0s") == bytes(SIZE)
    if name in ("add existing", "import"):
        assert content_at(repository, "new", "-0s") == world.image.read_bytes()
    if name == "import":
        assert content_at(repository, "db0", "after") == world.second.read_bytes()


def is_done(repository: Repository, name: str) -> bool:
    match name:
        case "add thin" | "add existing":
            return "new" in names(repository)
        case "remove":
            return "db0" not in names(repository)
        case "grow":
            return repository.volume("db0").size_bytes == 2 * SIZE
        case "shrink":
            return repository.volume("db0").size_bytes == 4096
    return "after" in [bookmark.name for bookmark in repository.bookmarks()]


def names(repository: Repository) -> list[str]:
    return [volume.name for volume in repository.volumes()]

"""What gets a name has its content on the medium before, and the name itself is there when the change returns.

The calls that matter are watched: a file that was written and not synced may not be renamed, and a directory in which a
name has changed has to be synced.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vsnapfs.repository.repository import Repository

pytestmark = pytest.mark.unit

Inode = tuple[int, int]


PASSING = "vsnapfs-catalog-"
"""A directory outside of the repository, for a copy of a catalog that is only read."""


class Watch:
    """``os`` with a memory: files that were written since their last sync, directories whose names were changed since."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.dirty: set[Inode] = set()
        self.changed: set[Inode] = set()
        self.renames = 0
        for name, after in (("write", self._written), ("ftruncate", self._written), ("fsync", self._synced)):
            monkeypatch.setattr(os, name, self._by_descriptor(getattr(os, name), after))
        monkeypatch.setattr(os, "rename", self._rename(os.rename))
        monkeypatch.setattr(os, "unlink", self._unlink(os.unlink))

    def _by_descriptor(self, real: Callable[..., Any], after: Callable[[Inode], None]) -> Callable[..., Any]:
        def call(fd: int, *args: Any) -> Any:
            result = real(fd, *args)
            after(inode_of(fd))
            return result

        return call

    def _written(self, inode: Inode) -> None:
        self.dirty.add(inode)

    def _synced(self, inode: Inode) -> None:
        self.dirty.discard(inode)
        self.changed.discard(inode)

    def _rename(self, real: Callable[..., None]) -> Callable[..., None]:
        def call(source: str, target: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
            found = os.stat(source, dir_fd=src_dir_fd, follow_symlinks=False)
            assert (found.st_dev, found.st_ino) not in self.dirty, f"{source} became {target} before it was synced"
            real(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
            self.changed |= {inode_of(src_dir_fd), inode_of(dst_dir_fd)}
            self.renames += 1

        return call

    def _unlink(self, real: Callable[..., None]) -> Callable[..., None]:
        def call(name: str, *, dir_fd: int) -> None:
            real(name, dir_fd=dir_fd)
            if PASSING not in os.readlink(f"/proc/self/fd/{dir_fd}"):
                self.changed.add(inode_of(dir_fd))

        return call

    def assert_durable(self, renames_min: int) -> None:
        assert self.renames >= renames_min
        assert self.changed == set(), "names that a power loss may take back"


def inode_of(fd: int) -> Inode:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    return Watch(monkeypatch)


def test_a_new_repository(memory_path: Path, watch: Watch) -> None:
    Repository.create(memory_path / "r")
    watch.assert_durable(renames_min=2)


def test_volumes(memory_path: Path, watch: Watch) -> None:
    image = memory_path / "disk.img"
    image.write_bytes(b"x" * 65536)
    Repository.create(memory_path / "r")
    with Repository.open(memory_path / "r", owner=True) as repository:
        repository.volume_add("thin", size_bytes=65536)
        repository.volume_add("taken", primary=image)
        repository.volume_resize("thin", 131072)
        repository.volume_remove("thin")
        watch.assert_durable(renames_min=5)


def test_repairs(memory_path: Path, watch: Watch) -> None:
    Repository.create(memory_path / "r")
    with Repository.open(memory_path / "r", owner=True) as repository:
        repository.bookmark_add("b")
    (memory_path / "r/catalog.db").write_bytes(b"no catalog")
    with Repository.open(memory_path / "r", owner=True):
        watch.assert_durable(renames_min=1)

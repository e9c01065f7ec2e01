"""Real filesystems on a loop device on a live volume, and their bookmarks, looked at with the filesystems' own tools.

What a bookmark of a mounted filesystem is, depends on what was asked of the filesystem before. Each is tried on ext4, xfs and btrfs:

* after `sync`: all is there. ext4 and btrfs have it in place, so the bookmark is mounted as it is. xfs has part of it in its log
  only, which cannot be replayed on a volume that is read-only: a copy of it mounts, and then holds exactly what was there.
  The checkers judge that copy, because ext4's and xfs's counters are in the log too.
* after `sync` and `fsfreeze`: complete without its log, on all of them. (The journal lies on another filesystem than the frozen
  one, so nothing waits for itself.) A frozen xfs keeps its log marked as in use, therefore `xfs_repair -n` judges the copy.
* after `umount`: the checkers judge the shown volume itself.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.devices import loop_device, mounted, sh
from tests.support.processes import Mounted, make_repository, must

pytestmark = [pytest.mark.mount, pytest.mark.requires_fuse, pytest.mark.requires_root, pytest.mark.timeout(300)]


@dataclass(frozen=True)
class Filesystem:
    """How to make, mount read-only and check one.

    ``mount_as_it_is``: options that keep it from replaying its log. ``in_place``: whether a sync puts all where it belongs.
    """

    kind: str
    make: tuple[str, ...]
    mount_as_it_is: str
    check: tuple[str, ...]
    in_place: bool


FILESYSTEMS = [
    Filesystem("ext4", ("mkfs.ext4", "-q"), "ro,noload", ("e2fsck", "-fn"), True),
    Filesystem("xfs", ("mkfs.xfs", "-q"), "ro,norecovery,nouuid", ("xfs_repair", "-n"), False),
    Filesystem("btrfs", ("mkfs.btrfs", "-q"), "ro,rescue=nologreplay", ("btrfs", "check", "--readonly"), True),
]


def change(directory: Path, rng: random.Random, number: int) -> None:
    """Add files of many sizes, some with holes, change and remove others: a day's work in small."""
    for index in range(25):
        path = directory / f"d{rng.randrange(4)}" / f"file-{number}-{index}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(rng.randbytes(int(10 ** rng.uniform(0, 5.5))))
    with (directory / f"sparse-{number}").open("wb") as file:
        file.seek(rng.randrange(1 << 22))
        file.write(rng.randbytes(10000))
    files = sorted(path for path in directory.rglob("file-*"))
    for path in rng.sample(files, min(len(files), 8)):
        path.unlink()
    for path in rng.sample(sorted(directory.rglob("file-*")), 8):
        with path.open("r+b") as file:
            file.seek(rng.randrange(path.stat().st_size + 1))
            file.write(rng.randbytes(3000))
    (directory / f"link-{number}").symlink_to(f"file-{number}-0")


@dataclass
class Ground:
    """A server, a loop device with a fresh filesystem on its live volume ``disk``, where it is mounted, and room beside."""

    filesystem: Filesystem
    server: Mounted
    device: Path
    directory: Path
    beside: Path
    rng: random.Random

    def bookmark(self, name: str) -> None:
        must(self.server.repository, "bookmark", "add", name)

    def shown(self, bookmark: str) -> Path:
        return self.server.mountpoint / "snaps" / bookmark / "disk"

    def keep(self, name: str) -> None:
        """A copy of every file as it is now."""
        sh("cp", "-a", self.directory, self.beside / name)

    def assert_same_files(self, directory: Path, kept: str) -> None:
        assert sh("diff", "-r", "--no-dereference", directory, self.beside / kept) == ""

    @contextmanager
    def recovered_copy(self, bookmark: str) -> Iterator[Path]:
        """The bookmark's volume, copied, its filesystem mounted once for writing so that it replays its log, and unmounted."""
        copy = self.beside / f"{bookmark}.img"
        sh("cp", "--sparse=always", self.shown(bookmark), copy)
        copy.chmod(0o600)
        with loop_device(copy) as device:
            with mounted(
                device, self.beside / "copy", options="nouuid" if self.filesystem.kind == "xfs" else "defaults"
            ) as directory:
                self.assert_same_files(directory, bookmark)
            yield device
        copy.unlink()

    def check(self, image: Path) -> None:
        sh(*self.filesystem.check, image)


@pytest.fixture(params=FILESYSTEMS, ids=lambda filesystem: filesystem.kind)
def ground(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ground]:
    filesystem: Filesystem = request.param
    repository = make_repository(tmp_path / "repository", disk="320M")
    (tmp_path / "beside").mkdir()
    with Mounted(repository, tmp_path / "mount") as server, loop_device(server.mountpoint / "live/disk") as device:
        sh(*filesystem.make, device)
        yield Ground(filesystem, server, device, tmp_path / "disk", tmp_path / "beside", random.Random(11))
    shutil.rmtree(tmp_path)


def work(ground: Ground) -> None:
    """Use the filesystem; bookmarks synced-N after a sync, frozen-N after a freeze, clean at the end; a copy of the files at each."""
    with mounted(ground.device, ground.directory) as directory:
        for number in range(2):
            change(directory, ground.rng, 2 * number)
            sh("sync", "-f", directory)
            ground.bookmark(f"synced-{number}")
            ground.keep(f"synced-{number}")
            change(directory, ground.rng, 2 * number + 1)
            sh("sync", "-f", directory)
            sh("fsfreeze", "--freeze", directory)
            try:
                ground.bookmark(f"frozen-{number}")
            finally:
                sh("fsfreeze", "--unfreeze", directory)
            ground.keep(f"frozen-{number}")
    ground.bookmark("clean")
    sh("cp", "-a", ground.beside / "frozen-1", ground.beside / "clean")


def test_bookmarks_hold_what_the_filesystem_held(ground: Ground) -> None:
    work(ground)
    synced = ["synced-0", "synced-1"] if ground.filesystem.in_place else []
    for bookmark in [*synced, "frozen-0", "frozen-1", "clean"]:
        with (
            loop_device(ground.shown(bookmark), read_only=True) as device,
            mounted(device, ground.beside / "ro", options=ground.filesystem.mount_as_it_is) as directory,
        ):
            ground.assert_same_files(directory, bookmark)
    for bookmark in ("synced-0", "synced-1", "frozen-0", "frozen-1"):
        with ground.recovered_copy(bookmark) as device:
            ground.check(device)
    for bookmark in ["clean"] if ground.filesystem.kind == "xfs" else ["frozen-0", "frozen-1", "clean"]:
        ground.check(ground.shown(bookmark))

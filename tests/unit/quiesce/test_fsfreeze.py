"""The member that freezes a filesystem, on an ext4 of the test's own."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.devices import mounted, sh
from vsnapfs.core.errors import BusyError, NotFoundError, NotStillError, QuiesceError, TimedOutError, UsageError
from vsnapfs.policy.profiles import FsfreezeSettings
from vsnapfs.quiesce.fsfreeze import FIFREEZE, FITHAW, FsfreezeMember, thaw_by
from vsnapfs.quiesce.ground import Ground
from vsnapfs.quiesce.member import MountLifeline

pytestmark = [pytest.mark.unit, pytest.mark.requires_root]

LATE_S = 30.0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """An ext4, which is not frozen any more when the test is over."""
    image = tmp_path / "image"
    sh("truncate", "-s", "16M", image)
    sh("mkfs.ext4", "-q", image)
    with mounted(image, tmp_path / "disk", options="loop") as disk:
        fd = os.open(disk, os.O_RDONLY)
        try:
            yield disk
        finally:
            with suppress(OSError):
                fcntl.ioctl(fd, FITHAW, 0)
            os.close(fd)


@contextmanager
def member(disk: Path, *grounds: Path) -> Iterator[FsfreezeMember]:
    """One that has let go of everything when the block is left."""
    settings = FsfreezeSettings(name="m", mountpoint=str(disk))
    it = FsfreezeMember(settings, [Ground(what="the repository", path=str(path)) for path in grounds])
    try:
        yield it
    finally:
        it.thaw()


def is_frozen(disk: Path) -> bool:
    """Asks, and leaves it as it was."""
    fd = os.open(disk, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, FIFREEZE, 0)
    except OSError:
        return True
    else:
        fcntl.ioctl(fd, FITHAW, 0)
        return False
    finally:
        os.close(fd)


def later() -> float:
    return time.monotonic() + LATE_S


def test_frozen_from_freeze_to_thaw(disk: Path) -> None:
    with member(disk, Path("/"), Path(__file__)) as it:
        it.prepare(later())
        assert not is_frozen(disk)
        it.freeze(later())
        assert is_frozen(disk)
        it.thaw()
        assert not is_frozen(disk)
    (disk / "file").write_text("x")


def test_a_stranger_can_thaw_it_by_its_lifeline(disk: Path) -> None:
    with member(disk) as it:
        assert it.lifeline() is None
        it.prepare(later())
        it.freeze(later())
        lifeline = it.lifeline()
        assert isinstance(lifeline, MountLifeline)
        assert thaw_by(lifeline.fd)
        assert not thaw_by(lifeline.fd)
        with pytest.raises(NotStillError, match="was thawed by somebody else before its time"):
            it.thaw()


def test_what_somebody_else_has_frozen_stays_frozen(disk: Path) -> None:
    fd = os.open(disk, os.O_RDONLY)
    try:
        with member(disk) as it:
            it.prepare(later())
            fcntl.ioctl(fd, FIFREEZE, 0)
            with pytest.raises(BusyError, match="is frozen already, by somebody else"):
                it.freeze(later())
        assert is_frozen(disk)
    finally:
        with suppress(OSError):
            fcntl.ioctl(fd, FITHAW, 0)
        os.close(fd)


def test_nothing_is_frozen_when_there_is_no_time(disk: Path) -> None:
    with member(disk) as it:
        it.prepare(later())
        with pytest.raises(TimedOutError):
            it.freeze(time.monotonic())
        assert not is_frozen(disk)


@pytest.mark.parametrize("inside", ["", "repository", "image"])
def test_what_the_repository_lies_on_is_refused(disk: Path, tmp_path: Path, inside: str) -> None:
    """Itself, a directory in it, or a filesystem on a loop device on a file in it."""
    ground = disk / inside
    if inside == "repository":
        ground.mkdir()
    if inside == "image":
        sh("truncate", "-s", "8M", ground)
        sh("mkfs.ext4", "-q", ground)
        with mounted(ground, tmp_path / "upper", options="loop") as upper:
            refused(disk, upper)
            with member(upper, disk) as it:
                it.prepare(later())  # what lies above may be frozen
        return
    refused(disk, ground)


def refused(disk: Path, ground: Path) -> None:
    with member(disk, Path("/"), ground) as it, pytest.raises(UsageError) as caught:
        it.prepare(later())
    assert f"{disk} must not be frozen: the repository, {ground}, lies on it" in str(caught.value)
    assert not is_frozen(disk)


def test_a_mount_of_the_same_filesystem_elsewhere_is_the_same(disk: Path, tmp_path: Path) -> None:
    (disk / "part").mkdir()
    with mounted(disk / "part", tmp_path / "bound", options="bind") as bound:
        refused(bound, disk)
        refused(disk, bound)


def test_what_is_no_mount_point(disk: Path, tmp_path: Path) -> None:
    (disk / "part").mkdir()
    said = f"{disk}/part is not a mount point, but lies in what is mounted on {disk}"
    with member(disk / "part") as it, pytest.raises(QuiesceError, match=said):
        it.prepare(later())
    with member(tmp_path / "nowhere") as it, pytest.raises(NotFoundError, match="nowhere"):
        it.prepare(later())


def test_a_symlink_to_a_mount_point_is_one(disk: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(disk)
    with member(tmp_path / "link") as it:
        it.prepare(later())


@pytest.mark.parametrize("kind", ["tmpfs", "proc"])
def test_what_cannot_be_frozen(tmp_path: Path, kind: str) -> None:
    said = f"is {kind}, which cannot be frozen"
    with (
        mounted(Path("none"), tmp_path / "it", kind=kind) as place,
        member(place) as it,
        pytest.raises(UsageError, match=said),
    ):
        it.prepare(later())


def test_a_kind_that_only_the_kernel_knows_cannot_be_frozen(tmp_path: Path) -> None:
    """vfat has a device, and no way to freeze it."""
    it = FsfreezeMember(FsfreezeSettings(name="m", mountpoint="/"), [])
    error = it._refused(OSError(95, "Operation not supported"))
    assert isinstance(error, UsageError)
    assert "cannot be frozen" in str(error)


@pytest.mark.parametrize(("kind", "size"), [("xfs", "320M"), ("btrfs", "128M")])
def test_other_filesystems(tmp_path: Path, kind: str, size: str) -> None:
    image = tmp_path / "image"
    sh("truncate", "-s", size, image)
    sh(f"mkfs.{kind}", "-q", image)
    with mounted(image, tmp_path / "disk", options="loop") as disk, member(disk, Path("/")) as it:
        it.prepare(later())
        it.freeze(later())
        assert is_frozen(disk)
        it.thaw()
        assert not is_frozen(disk)
        refused(disk, disk)


def test_subvolumes_of_btrfs_are_one_filesystem(tmp_path: Path) -> None:
    """stat() tells another device for each."""
    image = tmp_path / "image"
    sh("truncate", "-s", "128M", image)
    sh("mkfs.btrfs", "-q", image)
    with mounted(image, tmp_path / "disk", options="loop") as disk:
        sh("btrfs", "subvolume", "create", disk / "part")
        (disk / "part" / "repository").mkdir()
        assert (disk / "part").stat().st_dev != disk.stat().st_dev
        refused(disk, disk / "part" / "repository")

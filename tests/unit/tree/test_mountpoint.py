"""What can be mounted on, and what is said about what cannot. Mounts are in tests/mount."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import msgspec
import pytest

from vsnapfs.core.errors import BusyError, NotFoundError, UsageError
from vsnapfs.mounts.holders import holders
from vsnapfs.mounts.table import VSNAPFS, MountEntry, entry_of, mounts
from vsnapfs.tree import mountpoint
from vsnapfs.tree.mountpoint import prepare

pytestmark = pytest.mark.unit


def test_an_empty_directory_will_do(tmp_path: Path) -> None:
    target, repository = tmp_path / "m", tmp_path / "r"
    target.mkdir()
    assert prepare(target, repository) == target


def test_the_path_is_made_absolute_and_free_of_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "link").symlink_to("m")
    monkeypatch.chdir(tmp_path)
    assert prepare(Path("link"), tmp_path / "r") == tmp_path / "m"


def test_a_missing_mount_point_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=f"mkdir -p {tmp_path}/m"):
        prepare(tmp_path / "m", tmp_path / "r")


def test_a_file_is_no_mount_point(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("")
    with pytest.raises(UsageError, match="not a directory"):
        prepare(tmp_path / "m", tmp_path / "r")


@pytest.mark.parametrize("number", [errno.ENOTCONN, errno.ECONNABORTED, errno.ECANCELED])
def test_a_mount_that_nobody_serves_any_more_is_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Whatever the kernel says of it while its server is dying. It is not one of ours here, so it is left to its owner."""

    def unserved(_: Path) -> os.statvfs_result:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "statvfs", unserved)
    with pytest.raises(BusyError, match="is a dead mount of something"):
        prepare(tmp_path, tmp_path.parent / "r")


def shown(target: Path, repository: Path) -> MountEntry:
    """A mount of the repository, as the table has it."""
    found = entry_of(Path("/proc"))
    assert found is not None
    return msgspec.structs.replace(found, path=str(target), filesystem_type=VSNAPFS, source=str(repository))


def test_a_mount_that_ends_while_it_is_looked_at_is_no_hindrance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, repository = tmp_path / "m", tmp_path / "r"
    target.mkdir()
    looks = iter([shown(target, repository), None])
    monkeypatch.setattr(mountpoint, "entry_of", lambda _: next(looks))
    assert prepare(target, repository) == target


def test_a_dead_mount_that_somebody_else_takes_away_is_no_hindrance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, repository = tmp_path / "m", tmp_path / "r"
    target.mkdir()
    looks = iter([True, False])
    monkeypatch.setattr(mountpoint, "entry_of", lambda _: shown(target, repository))
    monkeypatch.setattr(mountpoint, "_is_dead", lambda _: next(looks))
    assert prepare(target, repository) == target


@pytest.mark.parametrize(("mountpoint", "repository"), [("a", "a"), ("a", "a/b"), ("a/b", "a")])
def test_a_mount_does_not_hide_its_repository_nor_lie_in_it(tmp_path: Path, mountpoint: str, repository: str) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(UsageError, match="overlap"):
        prepare(tmp_path / mountpoint, tmp_path / repository)


def test_the_table_of_mounts_is_read(tmp_path: Path) -> None:
    assert "/" in {entry.path for entry in mounts()}
    proc = entry_of(Path("/proc"))
    assert proc is not None
    assert proc.filesystem_type == "proc"
    assert entry_of(tmp_path) is None


def test_nobody_holds_what_is_not_mounted(tmp_path: Path) -> None:
    assert holders(tmp_path) == []

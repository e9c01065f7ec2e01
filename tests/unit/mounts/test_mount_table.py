"""The kernel's table of mounts, whatever paths are in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vsnapfs.mounts import table
from vsnapfs.mounts.table import MountEntry, entry_around, entry_of, entry_of_fd, mounts

pytestmark = pytest.mark.unit

MOUNTS = r"""
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
30 21 253:0 / /srv rw - xfs /dev/mapper/vg-srv rw
31 21 7:3 / /srv/on\040loop rw - ext4 /dev/loop3 rw
32 21 0:50 /sub /pool rw shared:9 master:2 - btrfs /dev/sdd rw,subvol=/sub
"""


@pytest.fixture(autouse=True)
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "mountinfo"
    path.write_text(MOUNTS.lstrip("\n"))
    monkeypatch.setattr(table, "MOUNTS", path)
    return path


def test_a_line_is_understood() -> None:
    found = list(mounts())
    assert found[2] == MountEntry("31", "7:3", "/srv/on loop", "ext4", "/dev/loop3", "rw")
    assert (found[3].filesystem_type, found[3].options) == ("btrfs", "rw,subvol=/sub")


@pytest.mark.parametrize(
    ("path", "top"), [("/", "/"), ("/srvx", "/"), ("/srv", "/srv"), ("/srv/on loop/a", "/srv/on loop")]
)
def test_the_mount_of_a_name(path: str, top: str) -> None:
    found = entry_around(Path(path))
    assert found is not None
    assert found.path == top


def test_the_last_of_several_mounts_on_a_directory_counts(told: Path) -> None:
    with told.open("a") as file:
        file.write("40 30 0:90 / /srv rw - tmpfs tmpfs rw\n")
    for found in (entry_around(Path("/srv/a")), entry_of(Path("/srv"))):
        assert found is not None
        assert found.filesystem_type == "tmpfs"


@pytest.mark.parametrize("name", [b"\r", b"\x0b\x0c", b"\x1c\x1d\x1e", b"\x85", "\x85\u2028\u2029".encode(), b"\xff"])
def test_a_line_ends_where_the_kernel_ends_it(told: Path, name: bytes) -> None:
    """Anybody who may mount anything, such as a FUSE filesystem, may do it on a directory of such a name."""
    told.write_bytes(told.read_bytes() + b"50 21 0:99 / /home/" + name + b" rw - fuse fuse rw\n")
    assert len(list(mounts())) == 5
    found = entry_of(Path(os.fsdecode(b"/home/" + name)))
    assert found is not None
    assert found.mount_id == "50"


def test_the_mount_of_an_open_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with (tmp_path / "file").open("w") as file:
        found = entry_of_fd(file.fileno())
    assert found == entry_around(tmp_path.resolve())

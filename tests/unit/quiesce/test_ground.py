"""What a file lies on, down through everything that the kernel tells of, on a made-up machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from vsnapfs.mounts import table
from vsnapfs.mounts.table import entry_around, entry_of_fd
from vsnapfs.quiesce import ground
from vsnapfs.quiesce.ground import lies_on

pytestmark = pytest.mark.unit

MOUNTS = r"""
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
30 21 253:0 / /srv rw - xfs /dev/mapper/vg-srv rw
31 21 7:3 / /srv/on\040loop rw - ext4 /dev/loop3 rw
32 21 0:50 /sub /pool rw shared:9 master:2 - btrfs /dev/sdd rw,subvol=/sub
33 21 0:60 / /box rw - overlay overlay rw,lowerdir=/l,upperdir=/pool/upper,workdir=/w
34 21 0:70 / /live rw - fuse.vsnapfs /srv/repo rw
35 21 7:4 / /data rw - ext4 /dev/loop4 rw
36 21 0:80 / /far rw - nfs4 host:/export rw
"""


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """sda1 is a partition of sda; vg-srv lies on md0 of sdb and sdc; loop3 on a file in /srv; loop4 on a live volume of
    /srv/repo; btrfs has sdd and sde."""
    devices, sys = tmp_path / "dev-block", tmp_path / "sys"
    devices.mkdir()

    def device(name: str, number: str, *, parent: str = "", slaves: tuple[str, ...] = (), file: str = "") -> None:
        directory = sys / parent / name
        directory.mkdir(parents=True)
        (directory / "dev").write_text(f"{number}\n")
        (directory / "slaves").mkdir()
        for slave in slaves:
            (directory / "slaves" / slave).symlink_to(sys / slave)
        if parent:
            (directory / "partition").write_text("1\n")
        if file:
            (directory / "loop").mkdir()
            (directory / "loop" / "backing_file").write_text(f"{file}\n")
        (devices / number).symlink_to(directory)

    device("sda", "8:0")
    device("sda1", "8:1", parent="sda")
    device("sdb", "8:16")
    device("sdc", "8:32")
    device("sdd", "8:48")
    device("sde", "8:64")
    device("md0", "9:0", slaves=("sdb", "sdc"))
    device("dm-0", "253:0", slaves=("md0",))
    device("loop3", "7:3", file="/srv/images/disk.img (deleted)")
    device("loop4", "7:4", file="/live/live/db0")
    (tmp_path / "mountinfo").write_text(MOUNTS.lstrip("\n"))
    monkeypatch.setattr(ground, "DEVICES", devices)
    monkeypatch.setattr(table, "MOUNTS", tmp_path / "mountinfo")
    monkeypatch.setattr(ground, "BTRFS", tmp_path / "btrfs")
    return tmp_path


def below(path: str) -> list[str]:
    """Mount points of the filesystems that a made-up path lies on."""
    mount = entry_around(Path(path))
    assert mount is not None
    return [found.path for found in ground._from_mount(mount, set())]


def test_a_partition_lies_on_no_other_filesystem() -> None:
    assert below("/etc") == ["/"]


def test_a_loop_device_lies_on_the_filesystem_of_its_file() -> None:
    assert below("/srv/on loop/x") == ["/srv/on loop", "/srv"]


def test_a_live_volume_lies_on_its_repository() -> None:
    assert below("/data/x") == ["/data", "/live", "/srv"]


def test_an_overlay_lies_on_its_upper_directory() -> None:
    assert below("/box/x") == ["/box", "/pool"]


def test_a_network_filesystem_lies_on_nothing_that_is_known() -> None:
    assert below("/far/x") == ["/far"]


def test_mirrors_and_mappings_are_followed(machine: Path) -> None:
    """The two disks of md0 are each the whole of a loop device in another filesystem."""
    for name, number, file in (("sdb", "8:16", "/pool/b.img"), ("sdc", "8:32", "/data/c.img")):
        loop = machine / "sys" / name / "loop"
        loop.mkdir()
        (loop / "backing_file").write_text(f"{file}\n")
        assert (machine / "dev-block" / number).exists()
    assert below("/srv/x") == ["/srv", "/pool", "/data", "/live", "/srv"]


def test_all_devices_of_btrfs_are_followed(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    devices = machine / "btrfs" / "some-uuid" / "devices"
    devices.mkdir(parents=True)
    for name in ("sdd", "sde"):
        (devices / name).symlink_to(machine / "sys" / name)
    loop = machine / "sys" / "sde" / "loop"
    loop.mkdir()
    (loop / "backing_file").write_text("/srv/e.img\n")
    monkeypatch.setattr(ground, "_number_of", {"/dev/sdd": "8:48"}.get)
    assert below("/pool/x") == ["/pool", "/srv"]


def test_a_real_file_lies_on_its_own_filesystem_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with (tmp_path / "file").open("w") as file:
        mount = entry_of_fd(file.fileno())
    assert next(lies_on(str(tmp_path / "file"))) == mount


def test_what_is_not_there_is_no_ground(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(lies_on(str(tmp_path / "nothing")))

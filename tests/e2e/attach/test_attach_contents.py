"""What may be in a volume: partitions, filesystems whole and damaged, and what is none."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.attach.ground import KINDS, SIZES, make_image, names
from tests.e2e.ground import MIB
from tests.support.devices import sh
from vsnapfs.attach import attached, check_filesystem, device_of
from vsnapfs.core.errors import StoreError, UsageError
from vsnapfs.mounts.table import entry_of

pytestmark = [pytest.mark.e2e, pytest.mark.requires_root, pytest.mark.requires_fuse]


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_filesystem_is_told_from_a_whole_one(kind: str, tmp_path: Path) -> None:
    image = make_image(tmp_path, kind, {"one": "1", "two": "2"})
    with device_of(image) as device:
        assert check_filesystem(device.path, device.filesystem).ok is True
    at = {"ext4": 1024 + 0x0C, "xfs": 144, "btrfs": None}[kind]
    if at is None:
        at = int(sh("btrfs", "inspect-internal", "dump-super", image).split("root\t\t\t")[1].split()[0])
        physical = sh("btrfs-map-logical", "-l", str(at), image)
        places = [int(line.split("physical ")[1].split()[0]) for line in physical.splitlines() if "physical" in line]
    else:
        places = [at]
    with image.open("r+b") as file:
        for each in places:
            file.seek(each)
            file.write(b"\x13\x57\x9b\xdf")
    with device_of(image) as device:
        verdict = check_filesystem(device.path, kind)
    assert verdict.ok is False, verdict.text


def test_what_no_checker_knows_is_not_called_damaged(tmp_path: Path) -> None:
    assert check_filesystem("/dev/null", "squashfs").ok is None
    assert check_filesystem(str(tmp_path / "nothing"), "ext4").ok is None


@pytest.mark.parametrize("sector_bytes", [512, 4096])
def test_one_of_several_partitions(sector_bytes: int, tmp_path: Path) -> None:
    from tests.support.partition_table import write_gpt

    parts = {"ext4": 1 * MIB, "xfs": 40 * MIB, "nothing": 400 * MIB}
    disk = tmp_path / "disk.img"
    with disk.open("wb") as file:
        file.truncate(410 * MIB)
    lengths = SIZES | {"nothing": MIB}
    write_gpt(disk, [(offset, lengths[kind]) for kind, offset in parts.items()], sector_bytes=sector_bytes)
    for kind in ("ext4", "xfs"):
        image = make_image(tmp_path, kind, {kind: "here"})
        sh(
            "dd",
            f"if={image}",
            f"of={disk}",
            "bs=1M",
            f"seek={parts[kind] // MIB}",
            "conv=notrunc,sparse",
            "status=none",
        )
    with attached(disk, tmp_path / "one", writable=False, partition=1) as one:
        assert (one.filesystem, one.partition, names(tmp_path / "one")) == ("ext4", 1, ["ext4"])
        assert os.statvfs(tmp_path / "one").f_blocks * 1024 <= SIZES["ext4"]
    with attached(disk, tmp_path / "two", writable=True, partition=2) as two:
        assert (two.filesystem, names(tmp_path / "two")) == ("xfs", ["xfs"])
    with (
        pytest.raises(UsageError, match=r"1 \(ext4, .*\), 2 \(xfs, .*\), 3 \(nothing known"),
        _attached(disk, tmp_path),
    ):
        pass
    with pytest.raises(UsageError, match="no partition 7; it has 1, 2, 3"), _attached(disk, tmp_path, partition=7):
        pass
    with pytest.raises(UsageError, match="no filesystem that blkid knows"), _attached(disk, tmp_path, partition=3):
        pass


def _attached(image: Path, place: Path, partition: int | None = None) -> Any:
    return attached(image, place / "wrong", writable=False, partition=partition)


def lvm_label() -> bytes:
    """A sector that says it is a physical volume."""
    content = struct.pack("<I8s32s", 32, b"LVM2 001", b"a" * 32).ljust(512 - 20, b"\0")
    checksum = zlib.crc32(content, 0xF597A6CF ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
    return struct.pack("<8sQI", b"LABELONE", 1, checksum) + content


def luks_header() -> bytes:
    name = b"01234567-89ab-cdef-0123-456789abcdef"
    return b"LUKS\xba\xbe" + struct.pack(">H", 1) + bytes(160) + name.ljust(40, b"\0")


@pytest.mark.parametrize(
    ("offset", "content", "said"),
    [
        (512, lvm_label(), "an LVM physical volume, no filesystem; on a branch: .*vgimportclone"),
        (0, luks_header(), r"an encrypted volume \(LUKS\), no filesystem; .*cryptsetup open --readonly"),
        (4086, b"SWAPSPACE2", "swap space, no filesystem; there are no files in it"),
        (0, b"", "no filesystem that blkid knows"),
    ],
    ids=["lvm", "luks", "swap", "nothing"],
)
def test_what_is_no_filesystem_is_refused_with_the_way_out(
    offset: int, content: bytes, said: str, tmp_path: Path
) -> None:
    image = tmp_path / "image"
    head = bytearray(2 * MIB)  # of less than a floppy disk blkid does not look for parts of others
    if content == b"SWAPSPACE2":
        head[1024:1032] = struct.pack("<II", 1, 255)
    head[offset : offset + len(content)] = content
    image.write_bytes(head)
    with pytest.raises(UsageError, match=said), _attached(image, tmp_path):
        pass
    assert not (tmp_path / "wrong").exists()


def test_images_that_were_made_to_be_read(tmp_path: Path) -> None:
    (tmp_path / "content").mkdir()
    (tmp_path / "content/one").write_text("1")
    sh("mksquashfs", tmp_path / "content", tmp_path / "squashfs.img", "-quiet", "-no-progress")
    sh("mkfs.erofs", tmp_path / "erofs.img", tmp_path / "content")
    for kind in ("squashfs", "erofs"):
        with attached(tmp_path / f"{kind}.img", tmp_path / "shown", writable=True) as made:
            assert (made.filesystem, made.writable) == (kind, False)
            assert names(tmp_path / "shown") == ["one"]


def test_a_filesystem_that_the_kernel_does_not_have(tmp_path: Path) -> None:
    """Whether it has vfat or not, it is said in words, or shown."""
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(8 * MIB)
    sh("mkfs.vfat", image)
    with device_of(image) as device:
        assert check_filesystem(device.path, device.filesystem).ok is True
    if "\tvfat\n" in Path("/proc/filesystems").read_text():
        with attached(image, tmp_path / "shown", writable=True):
            (tmp_path / "shown/one").write_text("1")
        with attached(image, tmp_path / "shown", writable=False):
            assert names(tmp_path / "shown") == ["one"]
    else:
        with pytest.raises(UsageError, match="cannot mount vfat"), _attached(image, tmp_path):
            pass


def test_a_table_without_a_partition_is_told(tmp_path: Path) -> None:
    """What protects a GPT that is not there."""
    disk = tmp_path / "disk.img"
    entry = struct.pack("<B3sB3sII", 0, b"", 0xEE, b"", 1, 0xFFFFFFFF)
    disk.write_bytes((bytes(446) + entry).ljust(510, b"\0") + b"\x55\xaa" + bytes(MIB))
    with pytest.raises(UsageError, match=r"a partition table \(PMBR\) without a partition"), _attached(disk, tmp_path):
        pass


def test_a_damaged_one_is_told_in_one_line(tmp_path: Path) -> None:
    image = make_image(tmp_path, "ext4", {})
    with image.open("r+b") as file:
        file.seek(1024 + 0x18)
        file.write(struct.pack("<I", 40))  # of the size of a block
    with (
        pytest.raises(StoreError, match=r"cannot mount the ext4: mount: .*; the kernel's log says why"),
        _attached(image, tmp_path),
    ):
        pass


@pytest.mark.parametrize("writable", [False, True])
def test_a_damaged_ext4_does_not_take_the_machine_along(writable: bool, tmp_path: Path) -> None:
    """Its superblock may ask for a panic of the kernel."""
    image = make_image(tmp_path, "ext4", {"one": "1"})
    sh("tune2fs", "-e", "panic", image)
    with attached(image, tmp_path / "shown", writable=writable):
        entry = entry_of(tmp_path / "shown")
        assert entry is not None
        assert "errors=remount-ro" in entry.options.split(",")

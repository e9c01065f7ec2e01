"""What a file or a device lies on: every filesystem below it, down through loop devices, partitions, mappings and mirrors.

To freeze a filesystem that the repository is on would make still the process that has to make the mark: it and the writer
would wait for each other until somebody thaws. A filesystem that lies on a live volume of the repository is above it, not
below, and is just what can be frozen.

Mounts are told by the numbers of /proc/self/mountinfo, which name the filesystem itself: stat() tells another number for each
subvolume of btrfs. Nothing is looked up in a mount that another file only names, such as the one behind a loop device: it may
be one of ours, which waits for us.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec

from vsnapfs.mounts.table import VSNAPFS, MountEntry, entry_around, entry_of_fd

DEVICES = Path("/sys/dev/block")
BTRFS = Path("/sys/fs/btrfs")
DELETED = " (deleted)"


class Ground(msgspec.Struct, frozen=True, kw_only=True):
    """Something that must go on while others are still. what: for people, such as ``the repository``."""

    what: str
    path: str


def lies_on(path: str) -> Iterator[MountEntry]:
    """Every filesystem that must take writes if ``path``, a file, directory or block device, is to; the nearest first.

    Raises: OSError: it cannot be looked at.
    """
    seen: set[str] = set()
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if stat.S_ISBLK(found.st_mode):
            yield from _below_device(_number(found.st_rdev), seen)
        elif (mount := entry_of_fd(fd)) is not None:
            yield from _from_mount(mount, seen)
    finally:
        os.close(fd)


def _number(device: int) -> str:
    return f"{os.major(device)}:{os.minor(device)}"


def _from_mount(mount: MountEntry, seen: set[str]) -> Iterator[MountEntry]:
    yield mount
    if mount.device in seen:
        return
    if (DEVICES / mount.device).exists():
        yield from _below_device(mount.device, seen)
        return
    seen.add(mount.device)
    for device in _devices_of(mount):
        yield from _below_device(device, seen)
    for path in _directories_of(mount):
        yield from _named(path, seen)


def _named(path: str, seen: set[str]) -> Iterator[MountEntry]:
    mount = entry_around(Path(path))
    if mount is not None:
        yield from _from_mount(mount, seen)


def _below_device(device: str, seen: set[str]) -> Iterator[MountEntry]:
    if device in seen:
        return
    seen.add(device)
    directory = (DEVICES / device).resolve()
    if (directory / "partition").exists():
        yield from _below_device(_text(directory.parent / "dev"), seen)
    for slave in _entries(directory / "slaves"):
        yield from _below_device(_text(slave / "dev"), seen)
    backing = _text(directory / "loop" / "backing_file")
    if backing:
        yield from _named(backing.removesuffix(DELETED), seen)


def _text(path: Path) -> str:
    """What the kernel says in a file of sysfs; "" if it has none."""
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape").strip("\n")
    except OSError:
        return ""


def _entries(directory: Path) -> list[Path]:
    """Of a directory of sysfs; none of one that is not there, or has just gone: of a device or a filesystem of somebody else."""
    try:
        return sorted(directory.iterdir())
    except OSError:
        return []


def _devices_of(mount: MountEntry) -> Iterator[str]:
    """Block devices of a filesystem that has a number of its own: that which was mounted, and those that btrfs has beside it."""
    first = _number_of(mount.source)
    if first is None:
        return
    yield first
    for filesystem in _entries(BTRFS):
        devices = [_text(device / "dev") for device in _entries(filesystem / "devices")]
        if first in devices:
            yield from devices


def _number_of(path: str) -> str | None:
    """Of a block device; None: it is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return _number(found.st_rdev) if stat.S_ISBLK(found.st_mode) else None


def _directories_of(mount: MountEntry) -> Iterator[str]:
    """Directories that a filesystem without a device has its files in: an overlay, or another repository's mount."""
    if mount.filesystem_type == "overlay":
        for option in mount.options.split(","):
            if option.startswith("upperdir="):
                yield option.removeprefix("upperdir=")
    if mount.filesystem_type == VSNAPFS and mount.source.startswith("/"):
        yield mount.source

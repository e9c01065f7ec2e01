"""What a block device lies on, all the way down: who writes to it writes to that."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

DEVICES = Path("/sys/dev/block")


def underneath(path: Path) -> Iterator[Path]:
    """Files behind loop devices, disks of partitions, devices that a mapping is made of. Of anything but a block device: nothing."""
    try:
        found = path.stat()
    except OSError:
        return
    if stat.S_ISBLK(found.st_mode):
        yield from _below((DEVICES / f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}").resolve())


def _below(device: Path) -> Iterator[Path]:
    """device: its directory in sysfs, which tells a tree: nothing lies on itself."""
    if (device / "partition").exists():
        yield Path("/dev", device.parent.name)
        yield from _below(device.parent)
    for slave in sorted((device / "slaves").glob("*")):
        yield Path("/dev", slave.name)
        yield from _below(slave.resolve())
    try:
        backing = os.fsdecode((device / "loop/backing_file").read_bytes().rstrip(b"\n"))
    except OSError:
        return
    yield Path(backing)
    yield from underneath(Path(backing))

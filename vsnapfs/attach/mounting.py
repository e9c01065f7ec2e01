"""Mounting and unmounting, by mount(8) and umount(8)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from vsnapfs.attach.filesystems import UNTRUSTED, Way
from vsnapfs.attach.loop import Loop
from vsnapfs.attach.programs import run
from vsnapfs.core.errors import BusyError, StoreError, UsageError
from vsnapfs.mounts.holders import holders
from vsnapfs.mounts.table import entry_of, mounts

PACKAGE = "mount"
DRIVERS = Path("/proc/filesystems")
BTRFS = Path("/sys/fs/btrfs")
BUSY_S = 2.0
"""So long an umount is tried again: whoever looked at a new device, such as udev, needs it for a moment."""
TRY_EVERY_S = 0.05


class Done(NamedTuple):
    """How it was mounted in the end."""

    options: str
    notes: list[str]


def mount(way: Way, device: Loop, directory: Path, extra: Sequence[str], uuid: str, lock_fd: int) -> Done:
    """Mount a device, by the first attempt of ``way`` that works. uuid: of its filesystem.

    Raises: BusyError: a filesystem with this identity is mounted, and the kernel cannot have two. UsageError: it has no driver for it.
    StoreError: it refused all.
    """
    said = ""
    for number, attempt in enumerate(way.attempts):
        options = ",".join([*UNTRUSTED, *attempt.split(","), *extra])
        forced = ["--rw"] if "rw" in options.split(",") else []  # or mount(8) falls back to read-only on the quiet
        argv = ["mount", *forced, "-t", way.driver, "-o", options, "--", device.path, str(directory)]
        done = run(argv, PACKAGE, pass_fds=(lock_fd, device.fd))
        if done.status == 0:
            return Done(options, [way.noted] if number else [])
        said = done.said()
    raise _refused(way, said, uuid)


def _refused(way: Way, said: str, uuid: str) -> Exception:
    if way.driver not in DRIVERS.read_text(encoding="ascii").split():
        return UsageError(
            f"this kernel cannot mount {way.driver}", hint="copy the image to a machine that can: vsnapfs export"
        )
    if way.driver == "btrfs" and (BTRFS / uuid).exists():
        return BusyError(
            f"a btrfs with the UUID {uuid} is mounted, and this kernel cannot have it twice",
            hint="unmount that, or use Linux 6.7; on a branch btrfstune -m gives it another UUID",
        )
    return StoreError(f"cannot mount the {way.driver}: {said}", hint="the kernel's log says why: dmesg")


def is_mounted(directory: str, device: str) -> bool:
    """The device is mounted on the directory; something else may be mounted over it."""
    return any(entry.path == directory and entry.source == device for entry in mounts())


def unmount(directory: str, device: str, *, lazy: bool, lock_fd: int) -> None:
    """Take a device's mount away, and what shows another part of it over it. lazy: at once, and for those who use it when they are
    done.

    Raises: BusyError: who uses it, or what is mounted over it. StoreError: the kernel refused.
    """
    end = time.monotonic() + BUSY_S
    while is_mounted(directory, device):
        top = entry_of(Path(directory))
        if top is not None and top.source != device:
            raise BusyError(f"{top.source} is mounted over {directory}", hint="unmount that first")
        done = run(["umount", *(["--lazy"] if lazy else []), "--", directory], PACKAGE, pass_fds=(lock_fd,))
        if done.status == 0 or not is_mounted(directory, device):
            continue
        if "busy" not in done.errors:
            raise StoreError(f"cannot unmount {directory}: {done.said()}")
        if time.monotonic() > end:
            who = ", ".join(holders(Path(directory))) or "somebody whom /proc does not tell"
            raise BusyError(f"{directory} is in use: {who}", hint="end that, or detach with --lazy")
        time.sleep(TRY_EVERY_S)

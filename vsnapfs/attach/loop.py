"""Loop devices that go by themselves: each is cleared by the kernel when nobody has it open any more.

So whoever makes one holds it open until it is mounted, and from then on the mount does; a process that is killed leaves
none, and neither does an umount by anybody.

What is written goes past the page cache of the file (direct I/O, where the file can): the filesystem has one of its own, and its requests
are served side by side, not one after the other. What is only read goes through it, since points share what they have in common
there, and a volume that the kernel reads by itself cannot be read otherwise.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from vsnapfs.core.errors import BusyError, from_os_error

CONTROL = "/dev/loop-control"
GET_FREE = 0x4C82
CONFIGURE = 0x4C0A
READ_ONLY, AUTOCLEAR, DIRECT_IO = 1, 4, 16
SECTOR_BYTES = 512
"""Of every device: a filesystem with larger sectors can be read in smaller ones, not the other way."""
TRIES = 64
TAKEN = {errno.EBUSY, errno.ENXIO}
"""What the kernel says of a device that another has taken, or just lets go of."""

CONFIG = struct.Struct("=II QQQQQ IIII 64s64s32s QQ 64x")
"""struct loop_config of linux/loop.h: the file, the sector, a struct loop_info64, and room."""
assert CONFIG.size == 304


class Loop(NamedTuple):
    """A device that lives as long as ``fd``, or a copy of it, is open."""

    path: str
    fd: int


@contextmanager
def loop(source: Path, *, writable: bool, offset_bytes: int = 0, length_bytes: int = 0) -> Iterator[Loop]:
    """A loop device on a range of a file; length_bytes 0: up to its end. It goes with this block, or with the last who uses it then.

    Raises: PermissionDeniedError, NotFoundError, StoreError: the file or the devices cannot be used. BusyError: none is free.
    """
    try:
        file = os.open(source, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise from_os_error(error, f"open {source}") from error
    try:
        flags = AUTOCLEAR | (DIRECT_IO if writable else READ_ONLY)
        name = os.fsencode(source)[-63:]
        config = CONFIG.pack(
            file, SECTOR_BYTES, 0, 0, 0, offset_bytes, length_bytes, 0, 0, 0, flags, name, b"", b"", 0, 0
        )
        made = _configured(config, source, writable=writable)
    finally:
        os.close(file)
    try:
        yield made
    finally:
        os.close(made.fd)


def _configured(config: bytes, source: Path, *, writable: bool) -> Loop:
    """The next free device; another process may be quicker to take it."""
    for _ in range(TRIES):
        path = ""
        try:
            path = f"/dev/loop{_free()}"
            fd = os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
            try:
                fcntl.ioctl(fd, CONFIGURE, config)
            except BaseException:
                os.close(fd)
                raise
            return Loop(path, fd)
        except OSError as error:
            if error.errno not in TAKEN:
                raise from_os_error(error, f"put a loop device {path} on {source}".replace("  ", " ")) from error
    raise BusyError("others take each loop device before this does", hint="try again")


def _free() -> int:
    control = os.open(CONTROL, os.O_RDWR | os.O_CLOEXEC)
    try:
        return fcntl.ioctl(control, GET_FREE)
    finally:
        os.close(control)


def backing_file(device: str) -> str | None:
    """What the kernel calls the file behind a loop device; None: there is none. It ends with `` (deleted)`` when that was deleted."""
    try:
        content = Path("/sys/block", Path(device).name, "loop/backing_file").read_bytes()
    except OSError:
        return None
    return os.fsdecode(content.rstrip(b"\n"))

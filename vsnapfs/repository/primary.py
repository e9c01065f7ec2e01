"""Files and block devices outside the repository that are primaries, or images to be imported: may we have them, and
are they free?

A primary is opened for writing once and held: a block device exclusively (so that nobody mounts it behind the
splitter's back), a regular file under an advisory lock (so that no second repository takes it).
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
from pathlib import Path
from typing import NamedTuple

from vsnapfs.core.errors import BusyError, UsageError, VsnapfsError, from_os_error
from vsnapfs.core.kernel_text import lines
from vsnapfs.repository.layout import Layout

SECTOR_BYTES = 512
VOLUME_BYTES_MAX = 2**47
MOUNTS = Path("/proc/self/mountinfo")
BLOCK_DEVICES = Path("/sys/block")
REMOTE = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "afs", "fuse"})


class OpenImage(NamedTuple):
    """A regular file or block device that is open; the caller closes ``fd``."""

    path: Path
    fd: int
    size_bytes: int
    is_device: bool


def is_same(path: Path, fd: int) -> bool:
    """True if the path leads to the open file or device, by whatever name."""
    try:
        there = path.stat()
    except OSError:
        return False  # whoever opens it will say what is wrong
    here = os.fstat(fd)
    if stat.S_ISBLK(here.st_mode):
        return stat.S_ISBLK(there.st_mode) and there.st_rdev == here.st_rdev
    return os.path.samestat(there, here)


def is_device(fd: int) -> bool:
    return stat.S_ISBLK(os.fstat(fd).st_mode)


def find_image(path: Path, layout: Layout) -> Path:
    """Where a path leads, symlinks resolved; never into the repository.

    Raises: NotFoundError. UsageError: it lies in the repository, or is no path.
    """
    try:
        real = path.resolve(strict=True)
    except OSError as error:
        raise from_os_error(error, f"find {path}") from error
    except (RuntimeError, ValueError) as error:  # a loop of symlinks; a NUL in it
        raise UsageError(f"{str(path)!r} cannot be followed: {error}") from error
    if real.is_relative_to(layout.path):
        raise UsageError(f"{path} lies in the repository {layout.path}", hint="give an image that is elsewhere")
    return real


def open_image(real: Path) -> OpenImage:
    """Open what ``find_image`` found, for reading. Raises: UsageError: no file or device, or of a size that cannot be."""
    return _sized(_opened(real, os.O_RDONLY))


def open_primary(real: Path) -> OpenImage:
    """Open what ``find_image`` found, for writing, and claim it.

    Raises: as ``open_image``; BusyError: mounted, behind a loop device, or claimed, and by whom.
    """
    return _sized(claim(real))


def claim(real: Path, dir_fd: int | None = None) -> OpenImage:
    """Open a file or device that is there, of any size, for writing, and for nobody else who asks. dir_fd: of its directory, if that
    may change under its path. No symlink is followed.

    Raises: UsageError: it is neither. BusyError: mounted, behind a loop device, or claimed, and by whom.
    """
    _refuse_loop(real)
    try:
        image = _opened(real, os.O_RDWR | (os.O_EXCL if real.is_block_device() else 0), dir_fd)
    except BusyError as error:
        raise _busy(real) from error
    try:
        if not image.is_device:
            fcntl.flock(image.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(image.fd)
        raise BusyError(f"{real} is in use by another repository or program", hint="stop that first") from error
    return image


def refuse_open(image: OpenImage) -> None:
    """Raises: BusyError: somebody else has the file open. Asks for a lease, which nobody gets then; where there are none (some
    filesystems, files of others), nobody can tell. A filesystem of other machines refuses one for reasons of its own."""
    if image.is_device or _filesystem_of(image.fd) in REMOTE:
        return
    try:
        fcntl.fcntl(image.fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(image.fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError as error:
        raise BusyError(
            f"{image.path} is open in another program", hint=f"stop that first; `fuser -v {image.path}` names it"
        ) from error
    except OSError:
        return


def check_size(size_bytes: int, what: str) -> int:
    """Return the size if a volume can have it. Raises: UsageError."""
    if not 0 < size_bytes <= VOLUME_BYTES_MAX or size_bytes % SECTOR_BYTES:
        raise UsageError(
            f"{what} is of {size_bytes} bytes", hint=f"a volume has a multiple of {SECTOR_BYTES} bytes, at most 128 TiB"
        )
    return size_bytes


def _opened(real: Path, flags: int, dir_fd: int | None = None) -> OpenImage:
    name = real if dir_fd is None else real.name
    try:
        fd = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=dir_fd)
    except OSError as error:
        if error.errno == errno.EISDIR:
            raise UsageError(f"{real} is a directory", hint="give a regular file or a block device") from error
        raise from_os_error(error, f"open {real}") from error
    try:
        return _measured(real, fd)
    except OSError as error:
        os.close(fd)
        raise from_os_error(error, f"measure {real}") from error
    except VsnapfsError:
        os.close(fd)
        raise


def _measured(real: Path, fd: int) -> OpenImage:
    mode = os.fstat(fd).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        raise UsageError(f"{real} is neither a regular file nor a block device")
    return OpenImage(real, fd, os.lseek(fd, 0, os.SEEK_END), stat.S_ISBLK(mode))


def _sized(image: OpenImage) -> OpenImage:
    """The image, if a volume can have its size; else it is closed."""
    try:
        check_size(image.size_bytes, str(image.path))
    except UsageError:
        os.close(image.fd)
        raise
    return image


def _refuse_loop(real: Path) -> None:
    """A loop device on the file would write past the splitter."""
    for loop in BLOCK_DEVICES.glob("loop*"):
        try:
            backing = (loop / "loop" / "backing_file").read_text(errors="surrogateescape").rstrip("\n")
        except OSError:
            continue  # not in use, or no longer
        if backing == str(real):
            raise BusyError(f"{real} is behind /dev/{loop.name}", hint=f"`losetup -d /dev/{loop.name}` first")


def _busy(real: Path) -> BusyError:
    """The error for a device that could not be claimed, with the mount point if that is why."""
    mounted = _mountpoint(os.stat(real).st_rdev)
    if mounted is not None:
        return BusyError(f"{real} is mounted on {mounted}", hint=f"`umount {mounted}` first")
    return BusyError(f"{real} is in use by the kernel or another program", hint="see lsblk for what stands on it")


def _mountpoint(device: int) -> str | None:
    """Where a block device is mounted, by its number or (btrfs has numbers of its own) by the name of its source."""
    for line in lines(MOUNTS.read_bytes()):
        before, _, after = line.partition(" - ")
        numbers, mountpoint = before.split(" ")[2], before.split(" ")[4]
        source = Path(_unescaped(after.split(" ")[1]))
        if numbers == f"{os.major(device)}:{os.minor(device)}" or _device_of(source) == device:
            return _unescaped(mountpoint)
    return None


def _filesystem_of(fd: int) -> str:
    """The type of the filesystem that an open file is on, without what a FUSE one adds to it; "": not known."""
    device = os.fstat(fd).st_dev
    for line in lines(MOUNTS.read_bytes()):
        before, _, after = line.partition(" - ")
        if before.split(" ")[2] == f"{os.major(device)}:{os.minor(device)}":
            return after.split(" ")[0].partition(".")[0]
    return ""


def _device_of(source: Path) -> int | None:
    try:
        found = source.stat()
    except OSError:
        return None
    return found.st_rdev if stat.S_ISBLK(found.st_mode) else None


def _unescaped(text: str) -> str:
    """mountinfo writes space, tab, line end and backslash in octal."""
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), text)

"""The mounts of this process's namespace, from /proc/self/mountinfo."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from vsnapfs.core.kernel_text import lines

MOUNTS = Path("/proc/self/mountinfo")
VSNAPFS = "fuse.vsnapfs"
"""The type of our mounts."""
UNSERVED = frozenset({errno.ENOTCONN, errno.ECONNABORTED, errno.ECANCELED})
"""What the kernel answers where nobody serves any more: not connected; while the server is dying, aborted; and cancelled,
what had come to its io_uring."""


class MountEntry(msgspec.Struct, frozen=True):
    """A line of mountinfo."""

    mount_id: str
    device: str
    """``major:minor`` in decimal."""
    path: str
    filesystem_type: str
    source: str


def entry_of(target: Path) -> MountEntry | None:
    """The mount that is on top at ``target``, in this process's mount namespace."""
    found = [entry for entry in mounts() if entry.path == str(target)]
    return found[-1] if found else None


def entry_around(path: Path) -> MountEntry | None:
    """The mount that an absolute path without symlinks lies in, by its name alone."""
    found = None
    for entry in mounts():
        if is_below(str(path), entry.path) and (found is None or len(entry.path) >= len(found.path)):
            found = entry
    return found


def mounts() -> Iterator[MountEntry]:
    """Every mount of this process's namespace."""
    for line in lines(MOUNTS.read_bytes()):
        first, _, second = line.partition(" - ")
        left, right = first.split(" "), second.split(" ")
        yield MountEntry(left[0], left[2], _unescape(left[4]), right[0], _unescape(right[1]))


def is_below(path: str, directory: str) -> bool:
    """It is the directory, or lies in it."""
    return path == directory or path.startswith(f"{directory.rstrip('/')}/")


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)

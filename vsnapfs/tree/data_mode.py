"""Who reads the bytes of a volume at a point: the plane, which compares each block, or the kernel by itself. Pure.

``verify``: every read goes through the plane and is compared with its checksums. ``kernel``: the kernel reads base and
segments itself, as fast as a file; blocks are compared once, when the file is opened. ``auto``: ``kernel`` where the
open is not slower for it, else ``verify``.

``verify`` is the default: that no wrong byte is ever returned is promised, and the kernel keeps no such promise for
what becomes of a block after the open.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Literal

import msgspec

from vsnapfs.binding import Limits
from vsnapfs.core.model import DataMode

Reader = Literal["verify", "kernel"]

AUTO = Limits(verify_bytes=16 << 20, runs=16384, milliseconds=100)
"""What an open may take that did not ask for it: 16 MiB are read from a disk in the time of a few seeks."""

ASKED = Limits(milliseconds=8000)
"""The kernel gives a request up after 20 s, and the mount with it; what was compared by then helps the next open."""

VERIFIED: Mapping[Reader, str] = MappingProxyType({"verify": "checksums", "kernel": "at-open"})
"""``verified`` of a volume: each 4 KiB that is read is compared with its checksum, or each was at the open."""
UNVERIFIED = "no"


class DataRules(msgspec.Struct, frozen=True, kw_only=True):
    """What was chosen for a mount. points: patterns of bookmarks' names to modes; the first that fits counts."""

    mode: DataMode = "verify"
    points: Mapping[str, DataMode] = MappingProxyType({})
    kernel_verify: bool = True
    """False: blocks are not compared at the open either."""

    @property
    def asks_kernel(self) -> bool:
        """Can any volume be read by the kernel?"""
        return any(mode != "verify" for mode in (self.mode, *self.points.values()))

    def wanted(self, bookmark: str | None) -> DataMode:
        """The mode of a volume at a bookmark, or at a point without a name."""
        if bookmark is not None:
            for pattern, mode in self.points.items():
                if fnmatchcase(bookmark, pattern):
                    return mode
        return self.mode

    def verified(self, reader: Reader) -> str:
        """What the xattr ``verified`` says."""
        return UNVERIFIED if reader == "kernel" and not self.kernel_verify else VERIFIED[reader]


def limits(mode: DataMode, capable: bool) -> Limits | None:
    """What building a kernel view may take; None: there shall be none."""
    if mode == "verify" or not capable:
        return None
    return ASKED if mode == "kernel" else AUTO

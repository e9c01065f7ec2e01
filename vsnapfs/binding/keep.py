"""Memory that outlives the process that works in it.

Source: native/include/keep.h.
"""

from __future__ import annotations

from typing import Any

from vsnapfs.binding._native import ffi, lib
from vsnapfs.binding.closing import Closing
from vsnapfs.binding.faults import check

NODES_BYTES = 1 << 20


class Keep(Closing):
    """A keep, mapped. Whoever was given it (Journal, Plane) is closed before it."""

    def __init__(self, fd: int) -> None:
        """Map the keep of a memfd (borrowed: it may be closed afterwards).

        Raises: StoreError: it is none, or another version's.
        """
        out = ffi.new("vs_keep **")
        check(lib.vs_keep_open(fd, out), "map the kept memory")
        self.c: Any = out[0]

    @staticmethod
    def make() -> int:
        """A new, empty memfd for a keep; the caller closes it."""
        return check(lib.vs_keep_make(), "make memory to keep")

    def nodes(self) -> memoryview:
        """The region for inode numbers that cannot be told from the number alone: uint8[NODES_BYTES], writable."""
        out = ffi.new("void **")
        check(lib.vs_keep_region(self.c, lib.VS_KEEP_NODES, NODES_BYTES, out), "map the kept memory")
        return memoryview(ffi.buffer(out[0], NODES_BYTES))

    def close(self) -> None:
        """Unmap it. Twice is allowed."""
        if self.c is not None:
            lib.vs_keep_close(self.c)
            self.c = None

"""Memory that outlives the process that works in it.

Source: native/include/keep.h.
"""

from __future__ import annotations

from typing import Any

from vsnapfs.binding._native import ffi, lib
from vsnapfs.binding.closing import Closing
from vsnapfs.binding.faults import check

NODES_BYTES = 1 << 20


def make_keep() -> int:
    """A new, empty memfd for a keep; the caller's to close."""
    return check(lib.vs_keep_make(), "make memory that outlives a worker")


class Keep(Closing):
    """The keep of a memfd, mapped. What uses it (Journal, Plane) borrows it and must be closed before."""

    def __init__(self, fd: int) -> None:
        """fd is borrowed for the call. Raises: FormatUnknownError: another version's memory."""
        out = ffi.new("vs_keep **")
        check(lib.vs_keep_open(fd, out), "use the memory of the worker before")
        self.c: Any = out[0]

    def nodes(self) -> memoryview:
        """The region for inode numbers that cannot be told from the number alone: uint8[NODES_BYTES], writable."""
        out = ffi.new("void **")
        check(lib.vs_keep_region(self.c, lib.VS_KEEP_NODES, NODES_BYTES, out), "use the memory of the worker before")
        return memoryview(ffi.buffer(out[0], NODES_BYTES))

    def close(self) -> None:
        """Unmap it. Twice is allowed."""
        if self.c is not None:
            lib.vs_keep_close(self.c)
            self.c = None

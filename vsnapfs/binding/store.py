"""Where the core keeps its files.

Source: native/include/store_ops.h.
"""

from __future__ import annotations

from typing import Any

from vsnapfs.binding._native import ffi, lib
from vsnapfs.binding.closing import Closing
from vsnapfs.binding.faults import check


class Store(Closing):
    """A repository's directory, as the core sees it. Borrows ``dir_fd``, which must stay open."""

    def __init__(self, dir_fd: int) -> None:
        out = ffi.new("vs_store **")
        check(lib.vs_store_posix(dir_fd, out), "use the repository's directory")
        self.c: Any = out[0]

    def zero(self, fd: int, offset_bytes: int, length_bytes: int) -> None:
        """Make a range of an open file or device, of any place, read as zeros; its space is given back where that can be done. The
        size stays. Raises: VsnapfsError."""
        check(lib.vs_store_zero(self.c, fd, offset_bytes, length_bytes), "write zeros")

    def close(self) -> None:
        """Free it; journals and builders on it must be closed before. Twice is allowed."""
        if self.c is not None:
            lib.vs_store_close(self.c)
            self.c = None

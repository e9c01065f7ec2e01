"""Where the core keeps its files.

Source: native/include/store_ops.h.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from vsnapfs.binding._native import ffi, lib
from vsnapfs.binding.faults import check


class Store:
    """A repository's directory, as the core sees it. Borrows ``dir_fd``, which must stay open."""

    def __init__(self, dir_fd: int) -> None:
        out = ffi.new("vs_store **")
        check(lib.vs_store_posix(dir_fd, out), "use the repository's directory")
        self.c: Any = out[0]

    def close(self) -> None:
        """Free it; journals and builders on it must be closed before. Twice is allowed."""
        if self.c is not None:
            lib.vs_store_close(self.c)
            self.c = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

"""A process whose memory is there when the system has none.

Source: native/include/memory.h.
"""

from __future__ import annotations

from typing import NamedTuple

from vsnapfs.binding._native import lib

RESERVE_BYTES = 32 << 20


class Protection(NamedTuple):
    """What was achieved; each needs rights that an ordinary user may not have."""

    locked: bool
    """What the process has used stays in memory, but for mapped files of the repository."""
    kept: bool
    """Freed memory stays with the process, and a reserve of it is there."""
    io_flusher: bool
    """An allocation does not wait for writes that may wait for this process."""
    killed_last: bool
    """Out of memory, the kernel kills others before."""


def protect_memory() -> Protection:
    """Protect this process as far as it may. Call once, on the first thread, before there are others."""
    got = lib.vs_memory_protect(RESERVE_BYTES)
    return Protection(
        locked=bool(got & lib.VS_MEMORY_LOCKED),
        kept=bool(got & lib.VS_MEMORY_KEPT),
        io_flusher=bool(got & lib.VS_MEMORY_IO_FLUSHER),
        killed_last=bool(got & lib.VS_MEMORY_KILLED_LAST),
    )

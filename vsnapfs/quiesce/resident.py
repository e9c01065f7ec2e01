"""A process that must not wait for a disk: what it has is locked in memory, and what it will need is there already."""

from __future__ import annotations

import sys
import threading

MCL_CURRENT = 1
MCL_FUTURE = 2
PR_SET_NAME = 15
STACK_BYTES = 1 << 20
"""Of a thread: all of it is locked."""


def stay_in_memory(name: str) -> bool:
    """Lock this process in memory, now and from now on, and give it a name for people. False: it may not; then it goes on as
    others do. Not inherited by a fork."""
    sys.dont_write_bytecode = True
    threading.stack_size(STACK_BYTES)
    try:
        import ctypes  # makes executable memory, which a service may be forbidden
    except (ImportError, MemoryError, OSError):
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_NAME, name.encode(), 0, 0, 0)
    locked: bool = libc.mlockall(MCL_CURRENT | MCL_FUTURE) == 0
    return locked

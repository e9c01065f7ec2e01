"""How much a thread's reads may be in the way of others'.

Source: native/include/priority.h.
"""

from __future__ import annotations

from vsnapfs.binding._native import lib
from vsnapfs.binding.faults import check


def io_idle() -> None:
    """Have the calling thread's storage I/O wait for everybody else's. Raises: StoreError: the system refuses."""
    check(lib.vs_priority_io_idle(), "lower the priority of a thread's I/O")

"""Return values of the core as exceptions.

Source: native/include/status.h.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from vsnapfs.binding._native import ffi, lib
from vsnapfs.core.errors import from_errno


class Fault(NamedTuple):
    """What the core says of a failure. ``code``: negative errno. Zeros: does not apply."""

    code: int
    volume: int
    seqno: int
    segment: int
    offset_bytes: int
    text: str


def fault_from(c: Any) -> Fault:
    """A Fault from a ``vs_fault *``."""
    text = ffi.string(c.text).decode("utf-8", "replace")
    return Fault(c.code, c.volume, c.seqno, c.segment, c.offset_bytes, text)


def last_fault() -> Fault:
    """This thread's last fault."""
    c = ffi.new("vs_fault *")
    lib.vs_fault_last(c)
    return fault_from(c)


def check(status: int, doing: str) -> int:
    """Return a status that is not negative; raise the error that a negative one stands for.

    Args: doing: what was tried, such as ``"open the journal"``; used when the core said no more than the number.
    """
    if status >= 0:
        return status
    fault = last_fault()
    if fault.code != status:
        raise from_errno(status, f"cannot {doing}: {os.strerror(-status)}")
    raise from_errno(
        status,
        fault.text,
        volume=fault.volume or None,
        seqno=fault.seqno or None,
        segment=fault.segment or None,
        offset_bytes=fault.offset_bytes or None,
    )

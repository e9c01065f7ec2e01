"""Wait for something that another process does: look often, give up at a deadline, never sleep for a fixed time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
LOOK_EVERY_S = 0.005


def eventually(look: Callable[[], T], what: str, *, deadline_s: float = 60.0) -> T:
    """Call ``look`` until it returns something true, and return that.

    Raises: AssertionError naming ``what`` after ``deadline_s`` seconds.
    """
    end = time.monotonic() + deadline_s
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < end, f"{what}: not within {deadline_s} s"
        time.sleep(LOOK_EVERY_S)


def nothing_left(look: Callable[[], Sequence[object]], *, deadline_s: float = 60.0) -> None:
    """Call ``look`` until it finds nothing.

    Raises: AssertionError naming what it finds still after ``deadline_s`` seconds.
    """
    end = time.monotonic() + deadline_s
    while found := look():
        assert time.monotonic() < end, f"still there after {deadline_s} s: {found}"
        time.sleep(LOOK_EVERY_S)

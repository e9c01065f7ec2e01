"""Is the window as long as was promised? Arithmetic alone."""

from __future__ import annotations

from typing import NamedTuple

WARNING_PERCENT = 85
PROBLEM_PERCENT = 75
AGE_NS_MIN = 3600 * 10**9
"""A journal that is younger tells nothing of its rate."""


class Held(NamedTuple):
    """age_ns: from the first instant of those that can all be read. journal_bytes: what they took. free_bytes: what is left for more."""

    age_ns: int
    journal_bytes: int
    free_bytes: int


def reach_ns(held: Held) -> int | None:
    """How far back the journal reaches when the disk is full, at its rate so far. None: nobody can tell yet."""
    if held.age_ns < AGE_NS_MIN or held.journal_bytes == 0:
        return None
    return held.age_ns * (held.journal_bytes + max(0, held.free_bytes)) // held.journal_bytes


def percent_of_promise(held: Held, promised_ns: int) -> int | None:
    """What share of the promised window there is room for, at most 100. None: nobody can tell yet."""
    reach = reach_ns(held)
    return None if reach is None else min(100, reach * 100 // promised_ns)

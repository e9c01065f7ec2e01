"""Which point to test next, and what the verdicts say together. Pure: no I/O, and the same facts give the same answer.

Points are told apart by their *state*: the seqno of the last record, at or before the point, that wrote to the volumes of
the hunt. Points of one state hold the same bytes, so one verdict is enough for all of them. States ascend with time.

Nothing is kept between two calls but verdicts. So a hunt that goes on from its log chooses as one that was never interrupted.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from vsnapfs.core.hunt import Verdict

Verdicts: TypeAlias = Mapping[int, Verdict]
"""By state."""

SKIPS_MAX = 32
"""With so many that cannot be tested between the last good and the first bad state, a search ends."""


class Narrowed(NamedTuple):
    """What is known: ``good`` is the last good state, ``bad`` the first bad one; ``skipped`` lie between, in order."""

    good: int
    bad: int
    skipped: tuple[int, ...]


class Contradiction(NamedTuple):
    """``bad`` is earlier than ``good``, and nothing that was tested lies between them."""

    bad: int
    good: int


class WrongEnd(NamedTuple):
    """An end of the search is not what it was said to be."""

    state: int
    said: Verdict
    found: Verdict


Known: TypeAlias = Narrowed | Contradiction | WrongEnd


def narrowed(good: int, bad: int, verdicts: Verdicts) -> Known:
    """What the verdicts say together. good, bad: the ends, good < bad, taken at their word unless there is a verdict of them."""
    said: dict[int, Verdict] = {good: "good", bad: "bad"}
    for end, word in said.items():
        if verdicts.get(end, word) != word:
            return WrongEnd(end, word, verdicts[end])
    told = said | dict(verdicts)
    goods = sorted(state for state, verdict in told.items() if verdict == "good")
    bads = sorted(state for state, verdict in told.items() if verdict == "bad")
    late = [state for state in goods if state > bads[0]]
    if late:
        return Contradiction(bads[bisect_left(bads, late[0]) - 1], late[0])
    skips = sorted(state for state, verdict in told.items() if verdict == "skip")
    return Narrowed(goods[-1], bads[0], tuple(s for s in skips if goods[-1] < s < bads[0]))


def next_probes(candidates: Sequence[int], known: Narrowed, verdicts: Verdicts, count: int = 1) -> list[int]:
    """Up to ``count`` states to test now, side by side, in order; none: the search has ended.

    candidates: ascending states. One at a time it takes at most ceil(log2(candidates between the ends + 1)) probes, and one
    more for each that has to be skipped; where their number + 2 is a power of two, one less when none is bad.
    """
    first, last = bisect_right(candidates, known.good), bisect_left(candidates, known.bad)
    if len(known.skipped) >= SKIPS_MAX:
        return []
    chosen: set[int] = set()
    for share in range(1, count + 1):
        middle = last - (last - first + 1) * (count + 1 - share) // (count + 1)
        place = next(
            (
                p
                for p in _places_from(middle, first, last)
                if candidates[p] not in verdicts and candidates[p] not in chosen
            ),
            None,
        )
        if place is None:
            break
        chosen.add(candidates[place])
    return sorted(chosen)


def untested(candidates: Sequence[int], known: Narrowed, verdicts: Verdicts) -> int:
    """How many candidates between the last good and the first bad state have no verdict."""
    first, last = bisect_right(candidates, known.good), bisect_left(candidates, known.bad)
    tested = sum(1 for state in verdicts if known.good < state < known.bad and _has(candidates, state))
    return last - first - tested


def probes_left(candidates: Sequence[int], known: Narrowed, verdicts: Verdicts, count: int = 1) -> int:
    """How many rounds of ``count`` probes it takes from here, if none has to be skipped."""
    left, rounds = untested(candidates, known, verdicts), 0
    while left > 0:
        left, rounds = left // (count + 1), rounds + 1
    return rounds


def _places_from(middle: int, first: int, last: int) -> Iterator[int]:
    """All of [first, last), the middle before all others. What is broken often is so for a stretch, so the way leads away from
    it in steps that double, on either side in turn; then to all that were left out, the nearest first."""
    step = 0
    place = middle
    while first <= place < last:
        yield place
        step = -2 * step if step else 1
        place = middle + step
    for distance in range(last - first + 1):
        yield from (p for p in (middle + distance, middle - distance) if first <= p < last)


def _has(candidates: Sequence[int], state: int) -> bool:
    at = bisect_left(candidates, state)
    return at < len(candidates) and candidates[at] == state

"""Which point is tested next: every small case, large ones by chance, with points that cannot be tested, and several at once."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from math import ceil, log2

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsnapfs.core.hunt import Verdict
from vsnapfs.hunt.search import (
    SKIPS_MAX,
    Contradiction,
    Known,
    Narrowed,
    WrongEnd,
    narrowed,
    next_probes,
    probes_left,
    untested,
)

pytestmark = pytest.mark.unit

Judge = Callable[[int], Verdict]
LARGE = 1024
FEW_SKIPS = 8
SEEDS = range(100)


def searched(
    candidates: Sequence[int], good: int, bad: int, judge: Judge, jobs: int = 1
) -> tuple[Known, list[list[int]]]:
    """The end of a search, and its rounds."""
    verdicts: dict[int, Verdict] = {}
    rounds: list[list[int]] = []
    while isinstance(known := narrowed(good, bad, verdicts), Narrowed):
        chosen = next_probes(candidates, known, verdicts, jobs)
        if not chosen:
            break
        assert len(chosen) <= jobs
        assert all(known.good < state < known.bad and state not in verdicts for state in chosen)
        assert len(rounds) + probes_left(candidates, known, verdicts, jobs) >= 1
        rounds.append(chosen)
        verdicts |= {state: judge(state) for state in chosen}
    return known, rounds


def threshold(first_bad: int, skipped: frozenset[int] = frozenset()) -> Judge:
    """Good before a state, bad from it on; but for those that cannot be told."""
    return lambda state: "skip" if state in skipped else "good" if state < first_bad else "bad"


@pytest.mark.parametrize("jobs", [1, 2, 3, 5])
def test_every_first_bad_of_every_small_number_is_found_in_as_few_rounds_as_can_be(jobs: int) -> None:
    for count in range(65):
        candidates = [10 * (place + 1) for place in range(count)]
        for first_bad in [*candidates, 10 * (count + 1)]:
            known, rounds = searched(candidates, 0, 10 * (count + 1), threshold(first_bad), jobs)
            assert known == Narrowed(first_bad - 10, first_bad, ())
            assert len(rounds) <= ceil(log2(count + 1) / log2(jobs + 1) + 1e-9) + (jobs > 1)


def test_a_thousand_bookmarks_take_ten_probes_and_with_skips_not_many_more() -> None:
    for seed in SEEDS:
        chance = random.Random(seed)
        candidates = sorted(chance.sample(range(1, 10 * LARGE), LARGE))
        good, *between, bad = candidates
        first_bad = chance.choice(candidates[1:])
        known, rounds = searched(between, good, bad, threshold(first_bad))
        assert known == Narrowed(candidates[candidates.index(first_bad) - 1], first_bad, ()), seed
        assert len(rounds) <= 10, seed
        skipped = frozenset(chance.sample(between, FEW_SKIPS))
        known, rounds = searched(between, good, bad, threshold(first_bad, skipped))
        assert len(rounds) <= 14, seed
        check_tight(known, candidates, first_bad, skipped)


def test_where_none_is_bad_it_takes_one_less() -> None:
    """The bad end is tested then, and it shall not cost a probe more."""
    for count in (2, 6, 14, 62, LARGE - 2):
        _, rounds = searched(range(1, count + 1), 0, count + 1, threshold(count + 1))
        assert len(rounds) == ceil(log2(count + 1)) - 1


def check_tight(known: Known, candidates: Sequence[int], first_bad: int, skipped: frozenset[int]) -> None:
    """Nothing that could have been tested lies between the last good and the first bad one."""
    assert isinstance(known, Narrowed)
    assert known.good < first_bad <= known.bad
    assert [state for state in candidates if known.good < state < known.bad] == list(known.skipped)
    assert set(known.skipped) <= skipped


@settings(max_examples=300, deadline=None)
@given(count=st.integers(1, 40), data=st.data())
def test_the_answer_is_as_narrow_as_the_skips_allow(count: int, data: st.DataObject) -> None:
    candidates = list(range(1, count + 1))
    first_bad = data.draw(st.integers(1, count + 1))
    skipped = frozenset(data.draw(st.sets(st.integers(1, count), max_size=SKIPS_MAX - 1)))
    jobs = data.draw(st.integers(1, 4))
    known, rounds = searched(candidates, 0, count + 1, threshold(first_bad, skipped), jobs)
    check_tight(known, candidates, first_bad, skipped)
    tested = [state for chosen in rounds for state in chosen]
    assert len(tested) == len(set(tested))


def test_a_stretch_that_is_broken_is_left_quickly() -> None:
    """The 100 in the middle cannot be told, and the defect is elsewhere."""
    candidates = range(1, LARGE)
    broken = frozenset(range(LARGE // 2 - 50, LARGE // 2 + 50))
    for first_bad in (3, 100, 400, 700, 1000):
        known, rounds = searched(candidates, 0, LARGE, threshold(first_bad, broken))
        assert known == Narrowed(first_bad - 1, first_bad, ())
        assert len(rounds) <= 10 + 8


def test_a_search_among_points_that_all_cannot_be_told_ends() -> None:
    known, rounds = searched(range(1, LARGE), 0, LARGE, lambda _: "skip")
    assert len(rounds) == SKIPS_MAX
    assert isinstance(known, Narrowed)
    assert (known.good, known.bad) == (0, LARGE)
    assert untested(range(1, LARGE), known, dict.fromkeys(known.skipped, "skip")) == LARGE - 1 - SKIPS_MAX


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.integers(1, 30), st.sampled_from(["good", "bad", "skip"]), max_size=30))
def test_a_good_state_after_a_bad_one_is_always_noticed(verdicts: dict[int, Verdict]) -> None:
    known = narrowed(0, 31, verdicts)
    goods = [state for state, verdict in verdicts.items() if verdict == "good"]
    bads = [state for state, verdict in verdicts.items() if verdict == "bad"]
    if any(good > bad for good in goods for bad in bads):
        assert isinstance(known, Contradiction)
        assert known.bad < known.good
        assert verdicts[known.bad] == "bad"
        assert verdicts[known.good] == "good"
        assert not any(known.bad < state < known.good for state in goods + bads)
    else:
        assert known == Narrowed(max([0, *goods]), min([31, *bads]), tuple(sorted(
            state for state, verdict in verdicts.items()
            if verdict == "skip" and max([0, *goods]) < state < min([31, *bads])
        )))  # fmt: skip


@pytest.mark.parametrize(("end", "said"), [(0, "good"), (9, "bad")])
@pytest.mark.parametrize("found", ["good", "bad", "skip"])
def test_an_end_that_is_not_what_was_said_ends_the_search(end: int, said: Verdict, found: Verdict) -> None:
    known = narrowed(0, 9, {end: found})
    assert known == (Narrowed(0, 9, ()) if found == said else WrongEnd(end, said, found))


def test_what_comes_next_depends_on_nothing_but_the_verdicts() -> None:
    """A search that goes on from any set of its verdicts ends the same and repeats nothing."""
    candidates = range(1, 200)
    skipped = frozenset({99, 100, 101, 150})
    for first_bad in (1, 77, 100, 102, 150, 199):
        judge = threshold(first_bad, skipped)
        _, rounds = searched(candidates, 0, 200, judge)
        tested = [chosen[0] for chosen in rounds]
        for length in range(len(tested)):
            verdicts = {state: judge(state) for state in tested[:length]}
            begun = narrowed(0, 200, verdicts)
            assert isinstance(begun, Narrowed)
            assert next_probes(candidates, begun, verdicts) == [tested[length]]

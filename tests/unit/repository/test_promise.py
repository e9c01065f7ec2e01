"""How far back the journal will reach, and what share of a promise that is."""

from __future__ import annotations

import pytest

from vsnapfs.repository.promise import Held, percent_of_promise, reach_ns

HOUR_NS = 3600 * 10**9
DAY_NS = 24 * HOUR_NS
GIB = 1 << 30

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("held", "reach"),
    [
        (Held(2 * DAY_NS, 10 * GIB, 30 * GIB), 8 * DAY_NS),
        (Held(2 * DAY_NS, 10 * GIB, 0), 2 * DAY_NS),
        (Held(2 * DAY_NS, 10 * GIB, -GIB), 2 * DAY_NS),  # into the reserve
        (Held(HOUR_NS - 1, 10 * GIB, 30 * GIB), None),
        (Held(2 * DAY_NS, 0, 30 * GIB), None),
    ],
)
def test_reach(held: Held, reach: int | None) -> None:
    assert reach_ns(held) == reach


@pytest.mark.parametrize(
    ("promised_ns", "percent"),
    [(7 * DAY_NS, 100), (8 * DAY_NS, 100), (10 * DAY_NS, 80), (16 * DAY_NS, 50)],
)
def test_percent_of_promise(promised_ns: int, percent: int) -> None:
    assert percent_of_promise(Held(2 * DAY_NS, 10 * GIB, 30 * GIB), promised_ns) == percent


def test_nobody_can_tell_yet() -> None:
    assert percent_of_promise(Held(1, GIB, GIB), DAY_NS) is None

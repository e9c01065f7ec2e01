"""What is proposed, from figures of which the answer is known."""

from __future__ import annotations

import pytest

from vsnapfs.policy.plan import (
    DAY_S,
    HEADROOM,
    HOUR_S,
    MONTH_S,
    MONTHS,
    WEEK_S,
    WEEKS,
    Answers,
    Measured,
    changed_after,
    interval,
    propose,
)

pytestmark = pytest.mark.unit

GIB = 1 << 30
TIB = 1 << 40


def measured(
    *,
    rate: float = GIB / DAY_S,
    peak: float = 0.0,
    changed: dict[float, int] | None = None,
    data: int = TIB,
    base: int = 0,
    room: int = 100 * TIB,
) -> Measured:
    known = {HOUR_S: 64 << 20, DAY_S: GIB} if changed is None else changed
    return Measured(rate, peak, known, data, base, room)


def test_with_room_the_window_is_the_time_until_a_defect_is_noticed() -> None:
    found = propose(measured(), Answers(14 * DAY_S, HOUR_S))
    assert found.window_s == 14 * DAY_S
    assert found.window_bytes == 14 * GIB
    assert (found.keep_daily, found.keep_weekly, found.keep_monthly) == (28, WEEKS, MONTHS)
    assert found.fits


def test_without_room_the_window_is_what_there_is_room_for() -> None:
    behind = sum(
        count * changed_after(measured(data=GIB), span_s)
        for count, span_s in ((28, DAY_S), (WEEKS, WEEK_S), (MONTHS, MONTH_S))
    )
    room = round((behind + GIB + 5 * GIB) * HEADROOM)
    found = propose(measured(data=GIB, room=room), Answers(14 * DAY_S, HOUR_S))
    assert found.window_s == pytest.approx(5 * DAY_S)
    assert found.fits
    assert found.total_bytes * HEADROOM == pytest.approx(room)


def test_no_room_at_all_is_said() -> None:
    found = propose(measured(room=GIB), Answers(14 * DAY_S, HOUR_S))
    assert not found.fits
    assert found.window_s == DAY_S


def test_nothing_written_needs_no_window() -> None:
    found = propose(measured(rate=0.0, changed={HOUR_S: 0}), Answers(3 * DAY_S, HOUR_S))
    assert (found.window_s, found.window_bytes, found.bookmarks_bytes, found.fits) == (3 * DAY_S, 0, 0, True)


@pytest.mark.parametrize(
    ("peak_bytes_per_s", "recover_in_s", "wanted_s"),
    [
        (0.0, HOUR_S, 3600),
        (0.0, 5 * HOUR_S, 4 * 3600),
        (0.0, 100 * DAY_S, 86400),
        (50 << 20, HOUR_S, 900),
        (500 << 20, HOUR_S, 60),
        (0.0, 60.0, 60),
    ],
)
def test_bookmarks_come_so_often_that_the_rest_is_written_again_in_time(
    peak_bytes_per_s: float, recover_in_s: float, wanted_s: int
) -> None:
    assert interval(measured(peak=peak_bytes_per_s), Answers(DAY_S, recover_in_s)) == wanted_s


@pytest.mark.parametrize(
    ("changed", "span_s", "wanted"),
    [
        ({HOUR_S: 100, DAY_S: 2400}, DAY_S, 2400),  # measured
        ({HOUR_S: 100, DAY_S: 2400}, HOUR_S / 2, 50),  # shorter than the shortest
        ({HOUR_S: 100, DAY_S: 2400}, 12.5 * HOUR_S, 1250),  # in between
        ({HOUR_S: 100, DAY_S: 2400}, WEEK_S, 7 * 2400),  # nothing is written twice, so it goes on growing
        ({HOUR_S: 100, DAY_S: 100}, MONTH_S, 100),  # always the same
        ({HOUR_S: 0, DAY_S: 100}, 2 * DAY_S, 200),  # of nothing no growth can be told: as much as there can be
        ({DAY_S: 100}, 2 * DAY_S, 200),
        ({DAY_S: 100}, 10_000 * DAY_S, 100_000),  # but no more than the volumes
    ],
)
def test_what_differs_after_a_span(changed: dict[float, int], span_s: float, wanted: float) -> None:
    assert changed_after(measured(changed=changed, data=100_000), span_s) == pytest.approx(wanted)


def test_before_a_span_was_measured_all_that_is_written_differs() -> None:
    assert changed_after(measured(rate=10.0, changed={}, data=TIB), HOUR_S) == 36_000

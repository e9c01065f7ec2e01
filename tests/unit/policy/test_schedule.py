"""When bookmarks are due: intervals, times of a zone's clock through both changes of daylight saving, jitter, what was missed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsnapfs.core.times import NS_PER_S, iso, parse_iso
from vsnapfs.policy import schedule as schedule_module
from vsnapfs.policy.schedule import GRACE_NS, Missed, Schedule, between, check_schedules, overlapped, step

pytestmark = pytest.mark.unit

MIN = 60 * NS_PER_S
H = 60 * MIN
DAY = 24 * H
BERLIN = "Europe/Berlin"
SPRING = parse_iso("2027-03-28T01:00:00Z")
"""The clocks of Berlin go from 02:00 to 03:00."""
AUTUMN = parse_iso("2026-10-25T01:00:00Z")
"""They go from 03:00 back to 02:00."""


CHANGES = [
    parse_iso(text) // NS_PER_S
    for text in (
        "2026-10-25T01:00Z",  # Berlin, back
        "2027-03-28T01:00Z",  # Berlin, forward
        "2026-11-01T06:00Z",  # New York, back
        "2027-03-14T07:00Z",  # New York, forward
        "2018-11-04T03:00Z",  # Sao Paulo, forward at midnight
        "2018-02-18T02:00Z",  # Sao Paulo, back at midnight
    )
]


def cron(expression: str, zone: str = BERLIN, **members: Any) -> Schedule:
    return Schedule(cron=expression, timezone=zone, **members)


def dues(schedule: Schedule, first_ns: int, last_ns: int) -> list[str]:
    """All due times in [first, last], as the zone's clock shows them, with the offset to UTC."""
    found, due_ns = [], schedule.next_after(first_ns - 1)
    while due_ns <= last_ns:
        local = datetime.fromtimestamp(due_ns // NS_PER_S, UTC).astimezone(ZoneInfo(BERLIN))
        found.append(f"{local:%d %H:%M%z}")
        due_ns = schedule.next_after(due_ns)
    return found


class TestIntervals:
    def test_they_count_from_1970(self) -> None:
        every = Schedule(every="15min")
        at = parse_iso("2026-11-26T10:14:59.999999999Z")
        assert iso(every.next_after(at)) == "2026-11-26T10:15:00.000000000Z"
        assert every.next_after(at + 1) == at + 1 + 15 * MIN
        assert every.last_until(at) == at + 1 - 15 * MIN
        assert every.last_until(at + 1) == at + 1

    def test_the_local_clock_does_not_matter(self) -> None:
        every = Schedule(every="6h", timezone=BERLIN)
        assert [second - first for first, second in pairwise([SPRING - DAY + k * 6 * H for k in range(9)])] == [
            6 * H
        ] * 8
        assert every.next_after(SPRING) == SPRING + 5 * H

    @pytest.mark.parametrize("every", ["1s", "1.5s", "7min", "1d"])
    def test_between(self, every: str) -> None:
        schedule = Schedule(every=every)
        first = schedule.next_after(SPRING)
        assert between(schedule, first, first) == Missed(1, first, first)
        last = first + 1000 * schedule.every_ns
        assert between(schedule, first, last) == Missed(1001, first, last)


class TestDaylightSaving:
    def test_a_time_that_does_not_exist_comes_when_the_clock_has_gone_forward(self) -> None:
        assert dues(cron("30 2 * * *"), SPRING - DAY, SPRING + DAY + H) == [
            "27 02:30+0100",
            "28 03:00+0200",
            "29 02:30+0200",
        ]

    def test_a_time_that_comes_twice_is_due_once(self) -> None:
        assert dues(cron("30 2 * * *"), AUTUMN - DAY - 2 * H, AUTUMN + DAY + H) == [
            "24 02:30+0200",
            "25 02:30+0200",
            "26 02:30+0100",
        ]

    def test_after_the_first_of_two_the_next_is_the_day_after(self) -> None:
        """Also when it is asked in the hour that comes again: the library would name the first time once more."""
        schedule = cron("30 2 * * *")
        first = AUTUMN - 30 * MIN
        assert schedule.next_after(first - 1) == first
        for after in range(first, first + 25 * H, 10 * MIN):
            assert schedule.next_after(after) == first + 25 * H, iso(after)

    def test_every_hour_and_minute_goes_on(self) -> None:
        assert dues(cron("0 * * * *"), AUTUMN - 2 * H, AUTUMN + H) == [
            "25 01:00+0200",
            "25 02:00+0200",
            "25 02:00+0100",
            "25 03:00+0100",
        ]
        assert dues(cron("0 * * * *"), SPRING - H, SPRING + H) == ["28 01:00+0100", "28 03:00+0200", "28 04:00+0200"]
        assert len(dues(cron("*/15 * * * *"), AUTUMN - 2 * H, AUTUMN + 2 * H - 1)) == 16

    @pytest.mark.parametrize("expression", ["30 2 * * *", "0 3 * * *", "15 1,2,3 * * *", "0 * * * *", "*/7 2 * * *"])
    @pytest.mark.parametrize("change", [SPRING, AUTUMN], ids=["spring", "autumn"])
    def test_looking_back_finds_what_looking_forward_does(self, expression: str, change: int) -> None:
        schedule = cron(expression)
        known = []
        due = schedule.next_after(change - DAY)
        while due <= change + DAY:
            known.append(due)
            due = schedule.next_after(due)
        assert known == sorted(set(known))
        for at in range(known[0], change + DAY, 10 * MIN):
            assert schedule.last_until(at) == max(due for due in known if due <= at), iso(at)

    @settings(max_examples=300, deadline=None)
    @given(
        minute=st.sampled_from(["0", "30", "*/20", "*", "7,43"]),
        hour=st.sampled_from(["0", "1", "2", "3", "*/2", "*", "1-3"]),
        zone=st.sampled_from(["UTC", BERLIN, "America/New_York", "America/Sao_Paulo", "Asia/Kolkata"]),
        at=st.integers(parse_iso("2016-01-01") // NS_PER_S, parse_iso("2030-01-01") // NS_PER_S)
        | st.sampled_from(CHANGES).flatmap(lambda change: st.integers(change - 4 * 3600, change + 4 * 3600)),
    )
    def test_time_only_goes_forward(self, minute: str, hour: str, zone: str, at: int) -> None:
        schedule = cron(f"{minute} {hour} * * *", zone)
        at_ns = at * NS_PER_S
        after, before = schedule.next_after(at_ns), schedule.last_until(at_ns)
        assert before <= at_ns < after
        assert schedule.next_after(before) == after
        assert schedule.last_until(after) == after
        assert schedule.last_until(after - 1) == before
        assert after - before <= 2 * DAY


class TestJitter:
    def test_it_is_the_same_for_the_same_time_and_another_for_another(self) -> None:
        schedule = Schedule(every="1h", jitter="10min")
        delays = [schedule.start_of(due, "seed") - due for due in range(0, 200 * H, H)]
        assert delays == [schedule.start_of(due, "seed") - due for due in range(0, 200 * H, H)]
        assert all(0 <= delay < 10 * MIN for delay in delays)
        assert len(set(delays)) == len(delays)
        assert delays != [schedule.start_of(due, "other") - due for due in range(0, 200 * H, H)]
        assert max(delays) > 9 * MIN
        assert min(delays) < MIN

    def test_none(self) -> None:
        assert Schedule(every="1h").start_of(H, "seed") == H

    def test_what_is_due_has_not_begun_yet(self) -> None:
        schedule = Schedule(every="1h", jitter="10min")
        start = schedule.start_of(H, "s")
        assert step(schedule, "s", 0, H) == (None, None, 0, start - H)
        assert step(schedule, "s", 0, start - 1) == (None, None, 0, 1)
        assert step(schedule, "s", 0, start) == (H, None, H, 0)
        assert overlapped(schedule, "s", 0, start - 1) is None
        assert overlapped(schedule, "s", 0, start) == Missed(1, H, H)


class TestSteps:
    every = Schedule(every="15min")
    skipping = Schedule(every="15min", catch_up=False)

    def test_nothing_is_due(self) -> None:
        assert step(self.every, "", 0, 14 * MIN) == (None, None, 0, MIN)

    def test_on_time(self) -> None:
        for late in (0, 1, GRACE_NS):
            for schedule in (self.every, self.skipping):
                assert step(schedule, "", 0, 15 * MIN + late) == (15 * MIN, None, 15 * MIN, 0)

    def test_late(self) -> None:
        now = 15 * MIN + GRACE_NS + 1
        missed = Missed(1, 15 * MIN, 15 * MIN)
        assert step(self.every, "", 0, now) == (15 * MIN, missed, 15 * MIN, 0)
        assert step(self.skipping, "", 0, now) == (None, missed, 15 * MIN, 0)

    def test_many_have_passed_and_one_is_made(self) -> None:
        now = 10 * H + 5 * MIN
        assert step(self.every, "", 0, now) == (10 * H, Missed(40, 15 * MIN, 10 * H), 10 * H, 0)
        assert step(self.skipping, "", 0, now) == (None, Missed(40, 15 * MIN, 10 * H), 10 * H, 0)

    def test_many_have_passed_and_the_last_is_on_time(self) -> None:
        for schedule in (self.every, self.skipping):
            assert step(schedule, "", 0, 10 * H + 1) == (10 * H, Missed(39, 15 * MIN, 10 * H - 15 * MIN), 10 * H, 0)

    def test_a_long_time_of_a_cron_expression_is_counted_up_to_a_bound(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(schedule_module, "COUNTED_MAX", 100)
        schedule = cron("* * * * *")
        run, missed, handled, _ = step(schedule, "", SPRING, SPRING + 365 * DAY + 30 * NS_PER_S)
        assert run == handled == SPRING + 365 * DAY
        assert missed == Missed(100, SPRING + MIN, SPRING + 365 * DAY - MIN, counted=False)
        _, missed, _, _ = step(schedule, "", SPRING, SPRING + 101 * MIN)
        assert missed == Missed(100, SPRING + MIN, SPRING + 100 * MIN)

    def test_a_run_that_went_on_for_long(self) -> None:
        assert overlapped(self.every, "", 0, 15 * MIN - 1) is None
        assert overlapped(self.every, "", 0, 31 * MIN) == Missed(2, 15 * MIN, 30 * MIN)

    @settings(max_examples=200, deadline=None)
    @given(st.lists(st.integers(1, 3 * H), min_size=1, max_size=40), st.booleans())
    def test_each_due_time_is_run_or_missed_once(self, waits: list[int], catch_up: bool) -> None:
        """However the clock is looked at."""
        schedule = Schedule(every="15min", jitter="14min", catch_up=catch_up)
        handled, now, run, missed = 0, 0, 0, 0
        for wait in waits:
            now += wait
            found = step(schedule, "s", handled, now)
            handled = found.handled_ns
            missed += found.missed.times if found.missed else 0
            made_up_for = found.missed is not None and found.missed.last_ns == found.run_ns
            run += found.run_ns is not None and not made_up_for
        assert run + missed == handled // (15 * MIN)
        assert schedule.start_of(handled + 15 * MIN, "s") > now


class TestSettings:
    @pytest.mark.parametrize(
        ("make", "said"),
        [
            (Schedule, "either `every` or `cron`"),
            (lambda: Schedule(every="1h", cron="0 2 * * *"), "either `every` or `cron`"),
            (lambda: Schedule(every="soon"), "every: 'soon'"),
            (lambda: Schedule(every="0.5s"), "less than a second"),
            (lambda: Schedule(every="0s"), "less than a second"),
            (lambda: Schedule(every="1h", jitter="1h"), "jitter: 1h is not less"),
            (lambda: Schedule(every="1h", jitter="x"), "jitter: 'x'"),
            (lambda: Schedule(every="1h", bookmark="{schedule}"), "no {time}"),
            (lambda: cron("0 2 * *"), "cron: '0 2 \\* \\*' is never due: Wrong number"),
            (lambda: cron("0 25 * * *"), "Bad hour"),
            (lambda: cron("0 2 30 2 *"), "Bad day-of-month"),
            (lambda: cron("x"), "cron: 'x'"),
            (lambda: cron("0 2 * * *", "Europe/Bonn"), "timezone: 'Europe/Bonn'"),
            (lambda: cron("0 2 * * *", "../../etc/passwd"), "timezone"),
        ],
    )
    def test_what_cannot_be(self, make: Callable[[], Schedule], said: str) -> None:
        with pytest.raises(ValueError, match=said):
            make()

    @pytest.mark.parametrize(
        ("name", "members", "said"),
        [
            ("a b", {}, "not a schedule name"),
            ("a", {"bookmark": "-{time}"}, "not a bookmark name"),
            ("a", {"bookmark": "{schedule}/{time}"}, "not a bookmark name"),
            ("a", {"bookmark": "{host}-{time}"}, "not a bookmark name"),
            ("a" * 120, {}, "too long"),
            ("a", {"quiesce": "db"}, r"there is no profile \[quiesce.db\]"),
        ],
    )
    def test_what_cannot_be_together(self, name: str, members: dict[str, str], said: str) -> None:
        with pytest.raises(ValueError, match=said):
            check_schedules({name: Schedule(every="1h", **members)}, ["other"])  # type: ignore[arg-type]
        check_schedules({"a": Schedule(every="1h", quiesce="other")}, ["other"])

    def test_names(self) -> None:
        at = parse_iso("2026-11-26T02:00:00.999Z")
        assert Schedule(every="1h").name_at("hourly", at) == "hourly-20261126T020000Z"
        assert Schedule(every="1h", bookmark="{time}.{schedule}").name_at("x", at) == "20261126T020000Z.x"

    def test_the_local_zone(self) -> None:
        due = Schedule(cron="0 2 * * *").next_after(SPRING + 100 * DAY)
        assert datetime.fromtimestamp(due // NS_PER_S).hour == 2  # noqa: DTZ006  the local time is meant
        assert (
            timedelta(0)
            < datetime.fromtimestamp(due // NS_PER_S, UTC) - datetime(2027, 7, 6, tzinfo=UTC)
            < timedelta(2)
        )

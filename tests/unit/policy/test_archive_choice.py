"""What a policy of archives comes to: by example, and against a plain model that goes through the days and keeps everything in lists."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsnapfs.core.model import Bookmark
from vsnapfs.core.tapes import ArchivedPoint, ArchiveEntry
from vsnapfs.core.times import NS_PER_S, iso, parse_iso
from vsnapfs.policy.archive_choice import Choice, Known
from vsnapfs.policy.archiving import ArchivePolicy

pytestmark = pytest.mark.unit

DAY_NS = 24 * 3600 * NS_PER_S
START = parse_iso("2026-11-02T00:00:00Z")
"""A Monday."""
NOON = DAY_NS // 2
LATER = parse_iso("2027-06-01T00:00:00Z")


def policy(**keys: Any) -> ArchivePolicy:
    return msgspec.convert({"bookmarks": "daily-*", "to": "vault", **keys}, ArchivePolicy)


def bookmark(day: int, name: str = "", created_ns: int | None = None) -> Bookmark:
    """Of noon of a day, from 1 on; its seqno is ten times that."""
    time_ns = START + (day - 1) * DAY_NS + NOON
    made_ns = time_ns if created_ns is None else created_ns
    return Bookmark(
        name=name or f"daily-{day}", seqno=10 * day, time=iso(time_ns), time_ns=time_ns, consistency="crash",
        created_seqno=10 * day, created=iso(made_ns), created_ns=made_ns,
    )  # fmt: skip


def days(*numbers: int) -> list[Bookmark]:
    return [bookmark(number) for number in numbers]


def archive(
    day: int,
    kind: str = "full",
    *,
    since: int | None = None,
    medium: str = "vault",
    volumes: tuple[str, ...] = ("db", "logs"),
    name: str | None = None,
    state: str = "complete",
) -> ArchiveEntry:
    at = bookmark(day)
    return msgspec.convert(
        {
            "uuid": f"{medium}-{day}-{kind}", "repository": "r", "kind": kind, "medium": medium, "volumes": volumes,
            "point": {"seqno": at.seqno, "time": at.time, "bookmark": at.name if name is None else name or None},
            "since": None if since is None else msgspec.to_builtins(ArchivedPoint(seqno=10 * since, time=bookmark(since).time)),
            "made": at.time, "state": state,
        },
        ArchiveEntry,
    )  # fmt: skip


def known(
    bookmarks: Sequence[Bookmark],
    copies: Sequence[ArchiveEntry] = (),
    broken_off: Sequence[ArchiveEntry] = (),
    *,
    gone: Collection[int] = (),
    zone: tzinfo = UTC,
) -> Known:
    """Volume ``logs`` is there from day 1 on, ``db`` always. gone: days whose point cannot be opened."""
    return Known(
        bookmarks,
        copies,
        broken_off,
        lambda seqno: frozenset({"db", "logs"} if seqno >= 10 else {"db"}),
        lambda point: point.seqno // 10 not in gone,
        zone,
    )


def due(of: ArchivePolicy, there: Known, now_ns: int = LATER) -> list[str]:
    return [each.name for each in Choice("p", of, there).due(now_ns)]


def next_of(of: ArchivePolicy, there: Known, *, anew: bool = False) -> tuple[str, str | None]:
    """The first that is due, and since which point."""
    choice = Choice("p", of, there)
    found = choice.archive(choice.due(LATER)[0], anew=anew)
    assert found.resume is not anew
    return found.bookmark, found.since


def test_all_that_fit_and_are_not_there() -> None:
    there = known([*days(1, 2, 3), bookmark(4, "other"), bookmark(5, "daily-5")], [archive(2)])
    assert due(policy(), there) == ["daily-1", "daily-3", "daily-5"]
    assert due(policy(bookmarks=["other", "daily-[13]"]), there) == ["daily-1", "daily-3", "other"]


def test_an_archive_counts_on_its_medium_with_all_volumes() -> None:
    for entry in (archive(1, medium="lto"), archive(1, volumes=("db",))):
        assert due(policy(), known(days(1), [entry])) == ["daily-1"]
    assert due(policy(volumes=["db"]), known(days(1), [archive(1, volumes=("db",))])) == []
    assert due(policy(), known(days(1), [archive(1, name="")])) == [], "archived by its seqno"


def test_an_archive_of_another_point_of_that_number_is_none_of_it() -> None:
    """An older copy of the repository was put back, and went another way."""
    other = msgspec.structs.replace(archive(1), point=ArchivedPoint(seqno=10, time=iso(START), bookmark="daily-1"))
    assert due(policy(), known(days(1), [other])) == ["daily-1"]


def test_a_point_without_any_of_the_volumes_is_no_business_of_it() -> None:
    there = known([*days(0), *days(1)])
    assert due(policy(volumes=["logs"]), there) == ["daily-1"]
    assert Choice("p", policy(volumes=["logs", "db"]), there).archive(days(0)[0]).volumes == ("db",)


def test_an_archive_without_any_of_the_volumes_is_none_of_it() -> None:
    """Nor is it the first of its month, nor what the first archive goes on from."""
    there = known([*days(0), *days(1, 2)], [archive(0, volumes=("db",))])
    first = policy(volumes=["logs"], which="first", per="month", protect="999d")
    assert due(first, there) == ["daily-1"]
    assert Choice("p", first, there).kept(LATER) == {"daily-1": "not yet archived (p)"}
    assert next_of(policy(volumes=["logs"], full="once"), there) == ("daily-1", None)


def test_archives_of_a_past_that_was_left_hold_up_nothing() -> None:
    """An older copy of the repository was put back: what was archived after that has higher numbers, and earlier times."""
    early = iso(START)
    left = msgspec.structs.replace(archive(90), point=ArchivedPoint(seqno=900, time=early, bookmark="daily-90"))
    there = known(days(1, 2, 3), [left])
    assert due(policy(nth=2, protect="9d"), there) == ["daily-2"]
    assert due(policy(which="last", per="day"), there) == ["daily-1", "daily-2", "daily-3"]


def test_a_point_with_two_names_is_archived_once() -> None:
    assert due(policy(), known([bookmark(1), bookmark(1, "daily-again")])) == ["daily-1"]


def test_the_first_and_the_last_of_each_week() -> None:
    there = known(days(2, 4, 7, 8, 10, 16))
    assert due(policy(which="first", per="week"), there) == ["daily-2", "daily-8", "daily-16"]
    assert due(policy(which="last", per="week"), there) == ["daily-7", "daily-10", "daily-16"]


def test_the_last_is_known_when_the_period_is_over() -> None:
    of, there = policy(which="last", per="week"), known(days(2, 4))
    sunday = START + 7 * DAY_NS
    assert due(of, there, sunday - 1) == []
    assert due(of, there, sunday) == ["daily-4"]
    assert due(of, known(days(2, 4, 9)), START) == ["daily-4"], (
        "a bookmark of a later week says so too, whatever the clock"
    )


def test_what_is_archived_of_a_period_stays_the_one_when_bookmarks_go() -> None:
    last, first = policy(which="last", per="week"), policy(which="first", per="week")
    assert due(last, known(days(2, 4), [archive(6)])) == []
    assert due(first, known(days(4, 6), [archive(2)])) == []
    assert due(last, known(days(2, 6), [archive(4)])) == ["daily-6"], "another one was archived by hand"
    assert due(first, known(days(2, 6), [archive(4)])) == ["daily-2"]


def test_periods_begin_where_the_timezone_says() -> None:
    """Noon UTC is the next day in Auckland."""
    there = known(days(1, 7, 8), zone=ZoneInfo("Pacific/Auckland"))
    assert due(policy(which="first", per="week"), there) == ["daily-1", "daily-7"]


def test_one_in_so_many() -> None:
    of = policy(nth=3, protect="30d")
    assert due(of, known(days(1, 2, 3, 4, 5))) == ["daily-1", "daily-4"]
    assert due(of, known(days(1, 2, 3), [archive(1)])) == []
    assert due(of, known(days(1, 2, 3, 4, 5, 6, 7), [archive(1)])) == ["daily-4", "daily-7"]
    assert due(of, known(days(3, 4, 5, 6), [archive(2)])) == ["daily-5"], "counted from the last that is archived"


def test_only_what_is_young_enough() -> None:
    assert due(policy(within="2d"), known(days(1, 2, 3)), bookmark(3).time_ns + DAY_NS) == ["daily-2", "daily-3"]


def test_a_server_begins_at_its_time() -> None:
    of = policy(cron="0 22 * * *", timezone="UTC")
    evening = START + 22 * 3600 * NS_PER_S
    there = known([bookmark(1), bookmark(1, "daily-late", evening + 1)])
    assert due(of, there, evening - 1) == []
    assert due(of, there, evening) == ["daily-1"]
    assert due(of, known([bookmark(2, created_ns=evening + 1)]), evening + DAY_NS - 1) == []
    assert due(of, known([bookmark(2, created_ns=evening + 1)]), evening + DAY_NS) == ["daily-2"]


def test_full_ones() -> None:
    there = known(days(1, 2, 3, 8), [archive(1), archive(2, "incremental", since=1)])
    assert next_of(policy(), there) == ("daily-3", None)
    assert next_of(policy(full="once"), there) == ("daily-3", "daily-2")
    assert next_of(policy(full=3), there) == ("daily-3", "daily-2")
    assert next_of(policy(full=2), there) == ("daily-3", None)
    assert next_of(policy(full="week"), there) == ("daily-3", "daily-2")
    assert next_of(policy(full="day"), there) == ("daily-3", None)
    later = known(days(8), there.copies)
    assert next_of(policy(full="week"), later) == ("daily-8", None)
    assert next_of(policy(full="month"), later) == ("daily-8", "@20"), "its bookmark has gone, its point is there"
    assert next_of(policy(full="once"), known(days(1))) == ("daily-1", None)


def test_it_goes_on_from_what_is_there_and_has_its_volumes() -> None:
    of = policy(full="once")
    copies = [archive(1), archive(2, "incremental", since=1), archive(3, volumes=("db",)), archive(5)]
    assert next_of(of, known(days(4), copies)) == ("daily-4", "@20")
    assert next_of(of, known(days(4), copies, gone=[2])) == ("daily-4", "@10")
    assert next_of(of, known(days(4), copies, gone=[1, 2])) == ("daily-4", None)
    others = [archive(1), archive(2, "incremental", since=1, name="hourly-7")]
    assert next_of(of, known(days(4), others)) == ("daily-4", "@10"), "not from what is of no business of this policy"


def test_what_was_broken_off_is_gone_on_with() -> None:
    of, copies = policy(full="once"), [archive(1), archive(2, "incremental", since=1)]
    begun = [archive(3, "incremental", since=1, state="failed")]
    assert next_of(of, known(days(1, 2, 3), copies, begun)) == ("daily-3", "daily-1")
    assert next_of(of, known(days(1, 2, 3), copies, begun), anew=True) == ("daily-3", "daily-2")
    assert next_of(of, known(days(1, 2, 3), copies, [archive(3, state="under way")])) == ("daily-3", None)
    assert next_of(of, known(days(1, 2, 3), copies, begun, gone=[1])) == ("daily-3", "daily-2")
    orphan = [msgspec.structs.replace(begun[0], parent="on a tape that was retired")]
    assert next_of(of, known(days(1, 2, 3), copies, orphan)) == ("daily-3", "daily-2")


def kept(of: ArchivePolicy, there: Known, now_ns: int) -> dict[str, str]:
    return Choice("p", of, there).kept(now_ns)


def test_what_is_kept() -> None:
    there = known(days(1, 2, 3), [archive(1)])
    now_ns = bookmark(3).time_ns
    assert kept(policy(), there, now_ns) == {}
    assert kept(policy(protect="2d"), there, now_ns) == dict.fromkeys(("daily-2", "daily-3"), "not yet archived (p)")
    assert kept(policy(protect="1d"), there, now_ns) == {"daily-3": "not yet archived (p)"}
    assert [each.name for each in Choice("p", policy(protect="1d"), there).unprotected(now_ns)] == ["daily-2"]


def test_what_may_yet_be_chosen_is_kept() -> None:
    now_ns = bookmark(3).time_ns
    assert list(kept(policy(which="last", per="week", protect="9d"), known(days(1, 2, 3)), now_ns)) == ["daily-3"]
    counted = kept(policy(nth=3, protect="9d"), known(days(1, 2, 3), [archive(1)]), now_ns)
    assert list(counted) == ["daily-2", "daily-3"]
    assert list(kept(policy(cron="0 22 * * *", protect="9d"), known(days(3)), now_ns)) == ["daily-3"]


def test_what_the_next_one_goes_on_from_is_kept_unless_that_takes_too_long() -> None:
    of = policy(full="once", protect="2d")
    there = known(days(1, 2, 3), [archive(1), archive(2, "incremental", since=1)])
    why = {"daily-3": "not yet archived (p)", "daily-2": "the next archive goes on from it (p)"}
    assert kept(of, there, bookmark(3).time_ns) == why
    assert kept(of, known(days(1, 2), there.copies), LATER) == {"daily-2": why["daily-2"]}, (
        "however long it takes to come"
    )
    assert kept(of, there, bookmark(5).time_ns) == {}
    assert kept(policy(protect="2d"), there, bookmark(3).time_ns) == {"daily-3": why["daily-3"]}


# A model that goes through time: each day there is a bookmark or none, an archive is made or not, bookmarks go.

PERIODS = {"day": 1, "week": 7}
STEP = st.tuples(st.booleans(), st.booleans(), st.sets(st.integers(0, 20), max_size=2))


class Model:
    """By days, from 1 on."""

    def __init__(self, which: str, per: str, nth: int) -> None:
        self.which, self.per, self.nth = which, PERIODS.get(per, 0), nth
        self.standing: list[int] = []
        self.archived: list[int] = []

    def due(self, today: int) -> list[int]:
        """today: what is over is all before it."""
        if self.which == "all" and self.nth == 1:
            return [day for day in self.standing if day not in self.archived]
        if self.which == "all":
            found, count = [], None if not self.archived else 0
            for day in self.standing:
                if not self.archived or day > max(self.archived):
                    count = 0 if count is None else count + 1
                    if count % self.nth == 0 and (count or not self.archived):
                        found.append(day)
            return found
        return [day for day in self.standing if self._is_the_one(day, today)]

    def _is_the_one(self, day: int, today: int) -> bool:
        """No other that stands or is archived is before it in its period, or behind it in one that is over."""
        period = (day - 1) // self.per
        others = [other for other in {*self.standing, *self.archived} if (other - 1) // self.per == period]
        if self.which == "first":
            return day == min(others) and day not in self.archived
        over = (max(today, *self.standing) - 1) // self.per > period
        return over and day == max(others) and day not in self.archived


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([("all", "", 1), ("all", "", 3), ("first", "week", 1), ("last", "week", 1), ("last", "day", 1)]),
       st.lists(STEP, max_size=24))  # fmt: skip
def test_day_after_day(kind: tuple[str, str, int], steps: list[tuple[bool, bool, set[int]]]) -> None:
    which, per, nth = kind
    of = policy(which=which, per=per, nth=nth, protect="400d")
    model = Model(which, per, nth)
    copies: list[ArchiveEntry] = []
    for today, (makes, archives, going) in enumerate(steps, 1):
        if makes:
            model.standing.append(today)
        there = known(days(*model.standing), copies)
        now_ns = START + (today - 1) * DAY_NS + NOON
        choice = Choice("p", of, there)
        found = choice.due(now_ns)
        assert [each.seqno // 10 for each in found] == model.due(today)
        stays = kept(of, there, now_ns)
        assert {each.name for each in found} <= set(stays), "what is due is kept"
        if archives and found:
            copies.append(archive(found[0].seqno // 10))
            model.archived.append(found[0].seqno // 10)
        model.standing = [day for day in model.standing if day not in going or f"daily-{day}" in stays]


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["always", "once", 2, 3, "week"]), st.lists(st.booleans(), max_size=20))
def test_all_come_on_tape_once_and_each_goes_on_from_one_before(full: str | int, steps: list[bool]) -> None:
    of = policy(full=full, protect="400d")
    copies: list[ArchiveEntry] = []
    made: list[int] = []
    since_full = 0
    for today, archives in enumerate([*steps, *[True] * 20], 1):
        there = known(days(*range(1, min(today, len(steps)) + 1)), copies)
        if not archives or not due(of, there):
            continue
        name, since = next_of(of, there)
        day = int(name.removeprefix("daily-"))
        assert since in (None, *(f"daily-{made[-1]}" for _ in made[-1:]))
        since_full = 1 if since is None else since_full + 1
        assert not isinstance(full, int) or since_full <= full
        assert full != "always" or since is None
        assert full != "once" or (since is None) == (not made)
        assert full != "week" or (since is None) == (not made or (made[-1] - 1) // 7 != (day - 1) // 7)
        made.append(day)
        copies.append(archive(day, "full" if since is None else "incremental", since=made[-2] if since else None))
    assert made == list(range(1, len(steps) + 1))


def test_what_the_next_archive_goes_on_from_stays_though_others_were_archived_since() -> None:
    """One whose bookmark has gone, one that is later than what is due."""
    of = policy(full="once", protect="999d")
    why = "the next archive goes on from it (p)"
    gone = known(days(1, 2, 3), [archive(1), archive(2), archive(9)], gone=[9])
    assert next_of(of, gone) == ("daily-3", "daily-2")
    assert Choice("p", of, gone).kept(LATER)["daily-2"] == why
    later = known(days(1, 2, 3), [archive(1), archive(3)])
    assert next_of(of, later) == ("daily-2", "daily-1")
    assert Choice("p", of, later).kept(LATER) == {"daily-2": "not yet archived (p)", "daily-1": why, "daily-3": why}


def test_what_goes_before_its_time_of_cron_is_missing_too() -> None:
    """Protection that is shorter than from one time to the next keeps less than was asked for."""
    choice = Choice("p", policy(cron="0 22 * * MON", timezone="UTC", protect="1d"), known(days(3, 4)))
    now_ns = START + 4 * DAY_NS + NOON
    assert [each.name for each in choice.due(now_ns)] == []
    assert [each.name for each in choice.missing(now_ns)] == ["daily-3", "daily-4"]
    assert [each.name for each in choice.unprotected(now_ns)] == ["daily-3", "daily-4"]


def test_bookmarks_of_a_clock_that_was_ahead_do_not_wait_until_it_is_there_again() -> None:
    now_ns = START + 2 * DAY_NS
    for of in (policy(), policy(cron="0 22 * * *", timezone="UTC")):
        assert due(of, known([bookmark(300), bookmark(301)]), now_ns) == ["daily-300", "daily-301"]


def test_one_of_the_nth_that_was_overtaken_is_still_due() -> None:
    """Its point was damaged, and held up no other."""
    of = policy(nth=2, protect="999d")
    there = known(
        days(1, 2, 3, 4, 5), [archive(3)], [archive(1, state="failed"), archive(4, medium="lto", state="failed")]
    )
    assert due(of, there) == ["daily-1", "daily-5"]
    assert sorted(Choice("p", of, there).kept(LATER)) == ["daily-1", "daily-4", "daily-5"]

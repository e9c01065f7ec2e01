"""The schedules of a server under a clock of the test's own: months in a second, clocks that are set, machines that sleep, runs
that take long, fail, or find somebody else at work.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from vsnapfs.core.errors import BusyError, GapError, NotFoundError
from vsnapfs.core.model import Bookmark
from vsnapfs.core.state import ScheduleState
from vsnapfs.core.times import NS_PER_S, iso, parse_iso
from vsnapfs.daemon import due as due_module
from vsnapfs.daemon import scheduling as scheduling_module
from vsnapfs.daemon.due import NOT_SERVED, OVERLAPPED
from vsnapfs.daemon.requests import BookmarkAdd
from vsnapfs.daemon.scheduling import Scheduler, scheduling
from vsnapfs.policy.schedule import Schedule
from vsnapfs.repository.repository import Repository

pytestmark = pytest.mark.unit

MS = NS_PER_S // 1000
MIN = 60.0
H = 60 * MIN
DAY = 24 * H
START = parse_iso("2026-11-26T10:00:00Z")


class World:
    """A repository as far as schedules know it, a wall clock that can be set, and how long a bookmark takes to be made."""

    def __init__(self, start_ns: int = START, **schedules: Schedule) -> None:
        self.uuid = "7d2f9518-a387-4c5e-8f61-8a39a716dbe8"
        self.settings = SimpleNamespace(schedule=schedules)
        self.made: list[Bookmark] = []
        self._names: dict[str, Bookmark] = {}
        self.asked: list[BookmarkAdd] = []
        self.told: list[tuple[str, str, dict[str, Any]]] = []
        self.handled_ns: dict[str, int] = {}
        """What events tell beside bookmarks."""
        self.takes_s = 0.0
        self.error: Callable[[], Exception | None] = lambda: None
        self._set_ns = start_ns
        self._since_s = trio.current_time()

    def wall_ns(self) -> int:
        return self._set_ns + round((trio.current_time() - self._since_s) * NS_PER_S)

    def set_clock(self, by_s: float) -> None:
        self._set_ns = self.wall_ns() + round(by_s * NS_PER_S)
        self._since_s = trio.current_time()

    def tell(self, kind: str, subject: str = "", **detail: Any) -> None:
        self.told.append((kind, subject, detail))

    def bookmark(self, name: str) -> Bookmark:
        if name in self._names:
            return self._names[name]
        raise NotFoundError(name)

    def schedules_last_made(self) -> dict[str, Bookmark]:
        return {bookmark.schedule: bookmark for bookmark in self.made}

    def schedules_handled_ns(self) -> dict[str, int]:
        made = {bookmark.schedule: bookmark.time_ns for bookmark in self.made}
        return made | self.handled_ns

    def make(self, wanted: BookmarkAdd) -> Bookmark:
        self.asked.append(wanted)
        error = self.error()
        if error is not None:
            raise error
        assert wanted.name not in self._names
        time_ns = self.wall_ns()
        made = Bookmark(
            name=wanted.name,
            seqno=len(self.made) + 1,
            time=iso(time_ns),
            time_ns=time_ns,
            consistency="crash",
            created_seqno=len(self.made) + 1,
            created=iso(time_ns),
            created_ns=time_ns,
            schedule=wanted.schedule,
        )
        self.made.append(made)
        self._names[made.name] = made
        return made

    async def in_thread(self, what: Callable[[], Any]) -> Any:
        """What is done takes its time before it is."""
        if getattr(what, "__name__", "") == "_make_one" and self.takes_s:
            await trio.sleep(self.takes_s)
        await trio.lowlevel.checkpoint()
        return what()

    @asynccontextmanager
    async def served(self) -> AsyncIterator[Scheduler]:
        """A server that runs the schedules."""
        scheduler = Scheduler(cast("Repository", self), self.make, self.wall_ns, self.in_thread)
        async with scheduling(scheduler):
            yield scheduler

    def minutes(self, schedule: str = "s") -> list[str]:
        """When bookmarks were made."""
        return [bookmark.time[11:16] for bookmark in self.made if bookmark.schedule == schedule]

    def missed(self) -> list[tuple[int, str, bool]]:
        return [
            (detail["count"], detail["reason"], detail["made_up_for"])
            for kind, _, detail in self.told
            if kind == "bookmark_missed"
        ]


def state(scheduler: Scheduler) -> ScheduleState:
    (only,) = scheduler.states()
    return only


@pytest.mark.parametrize("start", ["2026-09-01", "2027-02-01"], ids=["autumn", "spring"])
async def test_ninety_days(autojump_clock: MockClock, start: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the change of the clocks in them: each due time has its bookmark, none is missed, none is made twice."""
    monkeypatch.setattr(due_module, "LOOK_S_MAX", H)
    schedules = {
        "often": Schedule(every="2h", jitter="5min"),
        "night": Schedule(cron="30 2 * * *", timezone="Europe/Berlin"),
        "hourly": Schedule(cron="0 * * * *", timezone="Europe/Berlin", jitter="30min"),
        "weekly": Schedule(cron="0 4 * * SUN", timezone="America/New_York"),
    }
    start_ns = parse_iso(start)
    world = World(start_ns, **schedules)
    async with world.served():
        await trio.sleep(90 * DAY - 1)
    assert world.told == []
    for name, schedule in schedules.items():
        expected, due_ns = [], start_ns
        while (due_ns := schedule.next_after(due_ns)) < start_ns + 90 * DAY * NS_PER_S:
            expected.append(due_ns)
        starts = [schedule.start_of(due, f"{world.uuid}/{name}") for due in expected]
        starts = [start for start in starts if start < start_ns + (90 * DAY - 1) * NS_PER_S]
        made = [bookmark.time_ns for bookmark in world.made if bookmark.schedule == name]
        assert len(made) == len(starts)
        assert max(abs(at - start) for at, start in zip(made, starts, strict=True)) < MS
    counts = {name: sum(bookmark.schedule == name for bookmark in world.made) for name in schedules}
    assert counts["night"] == 90
    assert counts["often"] in (1079, 1080)
    assert counts["hourly"] in (2159, 2160)
    assert counts["weekly"] in (12, 13)


async def test_what_is_asked_for(autojump_clock: MockClock) -> None:
    world = World(s=Schedule(every="1h", quiesce="db", app="shop", note="why", bookmark="x.{schedule}.{time}"))
    async with world.served() as scheduler:
        assert state(scheduler) == ScheduleState(name="s", when="every 1h", next_due="2026-11-26T11:00:00.000000000Z")
        await trio.sleep(H + 1)
        assert world.asked == [
            BookmarkAdd(name="x.s.20261126T110000Z", application="shop", note="why", quiesce="db", schedule="s")
        ]
        assert state(scheduler) == ScheduleState(
            name="s",
            when="every 1h",
            next_due="2026-11-26T12:00:00.000000000Z",
            last_bookmark="x.s.20261126T110000Z",
            last_made="2026-11-26T11:00:00.000000000Z",
        )


class TestTheClock:
    async def test_set_forward(self, autojump_clock: MockClock) -> None:
        """Or the machine has slept: one is made for all that were missed, and it is seen within half a minute."""
        world = World(s=Schedule(every="1h"))
        async with world.served() as scheduler:
            await trio.sleep(30 * MIN)
            world.set_clock(5 * H)
            await trio.sleep(due_module.LOOK_S_MAX + 1)
            assert world.minutes() == ["15:30"]
            assert world.missed() == [(5, NOT_SERVED, True)]
            _, _, detail = world.told[0]
            assert (detail["first_due"][11:16], detail["last_due"][11:16]) == ("11:00", "15:00")
            await trio.sleep(H)
            assert world.minutes() == ["15:30", "16:00"]
            assert state(scheduler).missed == 5

    async def test_set_forward_without_catching_up(self, autojump_clock: MockClock) -> None:
        world = World(s=Schedule(every="1h", catch_up=False))
        async with world.served():
            await trio.sleep(30 * MIN)
            world.set_clock(5 * H)
            await trio.sleep(H)
        assert world.minutes() == ["16:00"]
        assert world.missed() == [(5, NOT_SERVED, False)]

    async def test_set_back(self, autojump_clock: MockClock) -> None:
        """Hours that come again are protected again; names are others."""
        world = World(s=Schedule(every="1h"))
        async with world.served():
            await trio.sleep(2.5 * H)
            assert world.minutes() == ["11:00", "12:00"]
            world.set_clock(-2 * H)
            await trio.sleep(3 * H)
        assert world.minutes() == ["11:00", "12:00", "11:00", "12:00", "13:00"]
        assert [bookmark.name for bookmark in world.made][2:4] == ["s-20261126T110000Z.2", "s-20261126T120000Z.2"]
        assert [(kind, subject) for kind, subject, _ in world.told] == [("clock_jumped", "s")]
        assert 1.4 * H < world.told[0][2]["back_s"] < 1.6 * H

    async def test_set_back_a_little(self, autojump_clock: MockClock) -> None:
        """As a clock is that is kept right: nothing is made twice."""
        world = World(s=Schedule(every="1h"))
        async with world.served():
            await trio.sleep(H + 5)
            world.set_clock(-20)
            await trio.sleep(2 * H)
        assert world.minutes() == ["11:00", "12:00"]
        assert world.told == []

    async def test_it_drifts(self, autojump_clock: MockClock) -> None:
        world = World(s=Schedule(every="15min"))
        async with world.served():
            for number in range(400):
                await trio.sleep(2 * MIN)
                world.set_clock(1.5 if number % 2 else -1.0)
        assert world.told == []
        times = [bookmark.time_ns for bookmark in world.made]
        assert len(times) == (world.wall_ns() - START) // (15 * 60 * NS_PER_S)


class TestRuns:
    async def test_one_that_takes_long_lets_others_be_missed(self, autojump_clock: MockClock) -> None:
        world = World(s=Schedule(every="15min"))
        world.takes_s = 40 * MIN
        async with world.served() as scheduler:
            await trio.sleep(20 * MIN)
            assert state(scheduler).running
            await trio.sleep(2 * H)
        assert world.minutes() == ["10:55", "11:40"]
        assert world.missed() == [(2, OVERLAPPED, False)] * 2

    async def test_schedules_take_turns(self, autojump_clock: MockClock) -> None:
        running: list[str] = []
        world = World(START, **{name: Schedule(every="1h") for name in "abc"})
        make = world.make

        def alone(wanted: BookmarkAdd) -> Bookmark:
            running.append(wanted.schedule)
            return make(wanted)

        world.make = alone  # type: ignore[method-assign]
        world.takes_s = 10.0
        async with world.served():
            await trio.sleep(H + 5)
            assert running == []
            await trio.sleep(10)
            assert len(running) == 1
            await trio.sleep(20)
        assert sorted(running) == ["a", "b", "c"]
        assert world.told == []

    async def test_one_that_fails_waits_until_it_is_due_again(self, autojump_clock: MockClock) -> None:
        world = World(s=Schedule(every="1h"))
        world.error = lambda: GapError("writes are not protected")
        async with world.served() as scheduler:
            await trio.sleep(3 * H + 1)
            assert len(world.asked) == 3
            assert state(scheduler).last_error == "writes are not protected"
            world.error = lambda: None
            await trio.sleep(H)
            assert len(world.asked) == 4
            assert state(scheduler).last_error is None
            assert state(scheduler).last_bookmark == "s-20261126T140000Z"
        assert world.missed() == []

    async def test_it_waits_for_a_quiesce_of_somebody_else(self, autojump_clock: MockClock) -> None:
        world = World(s=Schedule(every="1h"))
        async with world.served() as scheduler:
            await trio.sleep(H - 1)
            free_s = trio.current_time() + 20
            world.error = lambda: BusyError("a quiesce is under way") if trio.current_time() < free_s else None
            await trio.sleep(30)
            assert [bookmark.time[11:19] for bookmark in world.made] == ["11:00:19"]
            assert state(scheduler).last_error is None
        assert world.told == [], "what was made in the end has not failed"

    async def test_it_does_not_wait_for_ever(self, autojump_clock: MockClock) -> None:
        world = World(s=Schedule(every="1h"))
        world.error = lambda: BusyError("a quiesce is under way")
        async with world.served() as scheduler:
            await trio.sleep(H + 2 * scheduling_module.BUSY_S_MAX)
            assert state(scheduler).last_error == "a quiesce is under way"
            asked = len(world.asked)
            await trio.sleep(10 * MIN)
            assert len(world.asked) == asked
        assert world.told == [
            ("bookmark_failed", world.asked[-1].name, {"reason": "a quiesce is under way", "schedule": "s"})
        ]


class TestAnotherServer:
    async def test_it_goes_on_where_the_one_before_was(self, autojump_clock: MockClock) -> None:
        world = World(s=Schedule(every="15min"))
        for _ in range(50):
            async with world.served():
                await trio.sleep(7 * MIN)
        assert world.told == []
        assert len(world.made) == 50 * 7 // 15

    async def test_what_was_missed_meanwhile(self, autojump_clock: MockClock) -> None:
        for catch_up, minutes in ((True, ["11:00", "14:30", "15:00"]), (False, ["11:00", "15:00"])):
            world = World(s=Schedule(every="1h", catch_up=catch_up))
            world.set_clock(0)
            async with world.served():
                await trio.sleep(H + 1)
            await trio.sleep(3.5 * H - 1)
            async with world.served() as scheduler:
                await trio.sleep(1)
                assert state(scheduler).last_made is not None
                await trio.sleep(H)
            assert world.minutes() == minutes
            assert world.missed() == [(3, NOT_SERVED, catch_up)]

    async def test_what_had_failed_was_not_missed(self, autojump_clock: MockClock) -> None:
        world = World(s=Schedule(every="1h"))
        async with world.served():
            await trio.sleep(H + 1)
        await trio.sleep(4 * H)
        world.handled_ns = {"s": world.wall_ns() - 60 * NS_PER_S}
        async with world.served():
            await trio.sleep(1)
        assert world.told == []

    async def test_the_first_server_has_missed_nothing(self, autojump_clock: MockClock) -> None:
        world = World(s=Schedule(every="1h"))
        await trio.sleep(30 * DAY)
        async with world.served():
            await trio.sleep(30 * MIN)
        assert (world.made, world.told) == ([], [])

    async def test_a_clock_that_was_set_back_in_between(self, autojump_clock: MockClock) -> None:
        world = World(s=Schedule(every="1h"))
        async with world.served():
            await trio.sleep(H + 1)
        world.set_clock(-30 * DAY)
        async with world.served():
            await trio.sleep(2 * H)
        assert len(world.made) == 3
        assert [kind for kind, _, _ in world.told] == ["clock_jumped"]

    async def test_it_ends_at_once(self, autojump_clock: MockClock) -> None:
        world = World(s=Schedule(every="1h"))
        with trio.fail_after(1):
            async with world.served():
                await trio.lowlevel.checkpoint()

"""The schedules of a server: makes bookmarks when they are due, as ``bookmark add`` does it, and tells of those it missed.

Each schedule has a task of its own, so that its runs never overlap; runs of different schedules wait for each other. Time is
the wall clock's, looked at again and again: it may be set, and the machine may sleep. When the last run was is read from
the bookmarks and the events. A run that fails is told of, once, and not tried again before the schedule is due again.

Concurrency: of trio's thread; bookmarks are made in worker threads.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import trio

from vsnapfs.core.errors import BusyError, NotFoundError, VsnapfsError
from vsnapfs.core.model import Bookmark
from vsnapfs.core.state import Progress, ScheduleState
from vsnapfs.core.times import NS_PER_S, iso
from vsnapfs.daemon.api import verb_of
from vsnapfs.daemon.requests import BookmarkAdd
from vsnapfs.policy.schedule import GRACE_NS, Missed, Schedule, overlapped, step

if TYPE_CHECKING:
    from vsnapfs.repository.repository import Repository

R = TypeVar("R")
LOOK_S_MAX = 30.0
"""The clock is looked at this often: so late at most is seen that it was set, or that the machine has slept."""
BUSY_S_MAX = 60.0
"""So long a run waits for a quiesce of somebody else."""
AGAIN_S = 1.0
NOT_SERVED = "no server ran, the machine slept, or its clock was set forward"
OVERLAPPED = "the run before was still going"

Make = Callable[[BookmarkAdd], Bookmark]
"""Makes a bookmark as the verb does, blocking; raises what that raises."""
InThread = Callable[[Callable[[], Any]], Awaitable[Any]]


@asynccontextmanager
async def scheduling(scheduler: Scheduler) -> AsyncIterator[None]:
    """Run the schedules while the block runs. A bookmark that is being made at its end is given up, or ends."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scheduler.run)
        yield
        nursery.cancel_scope.cancel()


def maker(repository: Repository) -> Make:
    """Makes bookmarks of this repository, as the verb does for who asks."""

    def report(_: Progress) -> None:
        trio.from_thread.check_cancelled()

    def make(request: BookmarkAdd) -> Bookmark:
        made: Bookmark = verb_of(request).run(repository, request, report)
        return made

    return make


class Scheduler:
    """Runs the schedules of the settings."""

    def __init__(
        self,
        repository: Repository,
        make: Make,
        wall_ns: Callable[[], int] = time.time_ns,
        in_thread: InThread = trio.to_thread.run_sync,
    ) -> None:
        self._turn = trio.Lock()
        last, handled_ns = repository.schedules_last_made(), repository.schedules_handled_ns()
        self._runs = [
            _Runs(
                repository, name, schedule, last.get(name), handled_ns.get(name), self._turn, make, wall_ns, in_thread
            )
            for name, schedule in sorted(repository.settings.schedule.items())
        ]

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            for runs in self._runs:
                nursery.start_soon(runs.run)

    def states(self) -> list[ScheduleState]:
        """By name."""
        return [runs.state for runs in self._runs]


class _Runs:
    """One schedule."""

    def __init__(
        self,
        repository: Repository,
        name: str,
        schedule: Schedule,
        last: Bookmark | None,
        handled_ns: int | None,
        turn: trio.Lock,
        make: Make,
        wall_ns: Callable[[], int],
        in_thread: InThread,
    ) -> None:
        self._repository = repository
        self._name = name
        self._schedule = schedule
        self._seed = f"{repository.uuid}/{name}"
        self._turn = turn
        self._make = make
        self._wall_ns = wall_ns
        self._in_thread = in_thread
        self._handled_ns = wall_ns() if handled_ns is None else handled_ns
        self._tried = ""
        self.state = ScheduleState(
            name=name,
            when=schedule.said,
            last_bookmark=None if last is None else last.name,
            last_made=None if last is None else last.time,
        )
        self._say_next()

    async def run(self) -> None:
        while True:
            await self._follow_clock()
            now = step(self._schedule, self._seed, self._handled_ns, self._wall_ns())
            self._handled_ns = now.handled_ns
            if now.missed is not None:
                await self._tell_missed(now.missed, NOT_SERVED, made_up_for=now.run_ns is not None)
            if now.run_ns is not None:
                await self._run_once()
            self._say_next()
            await trio.sleep(min(LOOK_S_MAX, now.wait_ns / NS_PER_S))

    async def _follow_clock(self) -> None:
        """When it was set back: what is due after that is due, though it was once before."""
        back_ns = self._handled_ns - self._wall_ns()
        if back_ns > GRACE_NS:
            self._handled_ns -= back_ns
            await self._tell("clock_jumped", back_s=back_ns // NS_PER_S)

    async def _run_once(self) -> None:
        self._say(running=True)
        try:
            async with self._turn:
                made = await self._made()
        except VsnapfsError as error:
            self._say(running=False, last_error=str(error))
            await self._call(
                partial(self._repository.tell, "bookmark_failed", self._tried, reason=str(error), schedule=self._name)
            )
        else:
            self._say(running=False, last_error=None, last_bookmark=made.name, last_made=made.time)
        missed = overlapped(self._schedule, self._seed, self._handled_ns, self._wall_ns())
        if missed is not None:
            self._handled_ns = missed.last_ns
            await self._tell_missed(missed, OVERLAPPED, made_up_for=False)

    async def _made(self) -> Bookmark:
        """Raises: VsnapfsError: as the verb."""
        give_up_s = trio.current_time() + BUSY_S_MAX
        while True:
            try:
                return await self._call(self._make_one)
            except BusyError:
                if trio.current_time() >= give_up_s:
                    raise
            await trio.sleep(AGAIN_S)

    def _make_one(self) -> Bookmark:
        schedule = self._schedule
        self._tried = self._free_name(schedule.name_at(self._name, self._wall_ns()))
        wanted = BookmarkAdd(
            name=self._tried,
            application=schedule.app,
            note=schedule.note,
            quiesce=schedule.quiesce or None,
            schedule=self._name,
        )
        return self._make(wanted)

    def _free_name(self, wanted: str) -> str:
        """A clock that was set back comes to the same second again."""
        name, number = wanted, 1
        while self._is_taken(name):
            number += 1
            name = f"{wanted}.{number}"
        return name

    def _is_taken(self, name: str) -> bool:
        try:
            self._repository.bookmark(name)
        except NotFoundError:
            return False
        return True

    async def _tell_missed(self, missed: Missed, reason: str, *, made_up_for: bool) -> None:
        self._say(missed=self.state.missed + missed.times)
        await self._tell(
            "bookmark_missed",
            count=missed.times if missed.counted else f"more than {missed.times}",
            first_due=iso(missed.first_ns),
            last_due=iso(missed.last_ns),
            reason=reason,
            made_up_for=made_up_for,
        )

    async def _tell(self, kind: Any, **detail: Any) -> None:
        await self._call(partial(self._repository.tell, kind, self._name, **detail))

    async def _call(self, what: Callable[[], R]) -> R:
        result: R = await self._in_thread(what)
        return result

    def _say_next(self) -> None:
        due_ns = self._schedule.next_after(self._handled_ns)
        self._say(next_due=iso(self._schedule.start_of(due_ns, self._seed)))

    def _say(self, **members: Any) -> None:
        self.state = msgspec.structs.replace(self.state, **members)

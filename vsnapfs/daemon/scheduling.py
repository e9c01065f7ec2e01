"""The schedules of a server: makes bookmarks when they are due, as ``bookmark add`` does it, and tells of those it missed.

Each schedule has a task of its own, so that its runs never overlap (daemon/due.py); runs of different schedules wait for
each other. When the last run was is read from the bookmarks and the events. A run that fails is told of, once.

Concurrency: of trio's thread; bookmarks are made in worker threads.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from vsnapfs.core.errors import BusyError, NotFoundError, VsnapfsError
from vsnapfs.core.model import Bookmark
from vsnapfs.core.state import Progress, ScheduleState
from vsnapfs.daemon.api import verb_of
from vsnapfs.daemon.due import Clockwork, DueRuns, InThread
from vsnapfs.daemon.requests import BookmarkAdd
from vsnapfs.policy.schedule import Schedule

if TYPE_CHECKING:
    from vsnapfs.repository.repository import Repository

BUSY_S_MAX = 60.0
"""So long a run waits for a quiesce of somebody else."""
AGAIN_S = 1.0

Make = Callable[[BookmarkAdd], Bookmark]
"""Makes a bookmark as the verb does, blocking; raises what that raises."""


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
        clockwork = Clockwork(wall_ns, in_thread)
        last, handled_ns = repository.schedules_last_made(), repository.schedules_handled_ns()
        self._runs = [
            _Runs(repository, name, schedule, last.get(name), handled_ns.get(name), self._turn, make, clockwork)
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


class _Runs(DueRuns[ScheduleState]):
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
        clockwork: Clockwork,
    ) -> None:
        state = ScheduleState(
            name=name,
            when=schedule.said,
            last_bookmark=None if last is None else last.name,
            last_made=None if last is None else last.time,
        )
        super().__init__(schedule, f"{repository.uuid}/{name}", handled_ns, clockwork, state)
        self._repository = repository
        self._name = name
        self._schedule = schedule
        self._turn = turn
        self._make = make
        self._tried = ""

    async def once(self) -> None:
        try:
            async with self._turn:
                made = await self._made()
        except VsnapfsError as error:
            self.say(last_error=str(error))
            await self.clockwork.call(
                partial(self._repository.tell, "bookmark_failed", self._tried, reason=str(error), schedule=self._name)
            )
        else:
            self.say(last_error=None, last_bookmark=made.name, last_made=made.time)

    async def tell(self, kind: Any, **detail: Any) -> None:
        await self.clockwork.call(partial(self._repository.tell, kind, self._name, **detail))

    async def tell_missed(self, **detail: Any) -> None:
        await self.tell("bookmark_missed", **detail)

    async def _made(self) -> Bookmark:
        """Raises: VsnapfsError: as the verb."""
        give_up_s = trio.current_time() + BUSY_S_MAX
        while True:
            try:
                return await self.clockwork.call(self._make_one)
            except BusyError:
                if trio.current_time() >= give_up_s:
                    raise
            await trio.sleep(AGAIN_S)

    def _make_one(self) -> Bookmark:
        schedule = self._schedule
        self._tried = self._free_name(schedule.name_at(self._name, self.clockwork.wall_ns()))
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

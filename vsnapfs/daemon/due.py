"""Something that is due by the clock: run when it is, and tell of the times that were missed.

Time is the wall clock's, looked at again and again: it may be set, and the machine may sleep. Runs of one thing never overlap. A run
that fails is not tried again before it is due again.

Concurrency: of trio's thread; what blocks is called in worker threads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import msgspec
import trio

from vsnapfs.core.state import ScheduleState, VerificationState
from vsnapfs.core.times import NS_PER_S, iso
from vsnapfs.policy.schedule import GRACE_NS, Missed, Timing, overlapped, step

R = TypeVar("R")
S = TypeVar("S", ScheduleState, VerificationState)

LOOK_S_MAX = 30.0
"""The clock is looked at this often: so late at most is seen that it was set, or that the machine has slept."""
NOT_SERVED = "no server ran, the machine slept, or its clock was set forward"
OVERLAPPED = "the run before was still going"

InThread = Callable[[Callable[[], Any]], Awaitable[Any]]


class Clockwork:
    """How the time is known, and how to call what blocks."""

    def __init__(self, wall_ns: Callable[[], int], in_thread: InThread) -> None:
        self.wall_ns = wall_ns
        self._in_thread = in_thread

    async def call(self, what: Callable[[], R]) -> R:
        result: R = await self._in_thread(what)
        return result


class DueRuns(ABC, Generic[S]):
    """One thing. A subclass says what a run does, ``once``, and how the rest is told, ``tell``, ``tell_missed``."""

    def __init__(self, timing: Timing, seed: str, handled_ns: int | None, clockwork: Clockwork, state: S) -> None:
        """handled_ns: until when it has had its runs; None: it is new, and has missed nothing."""
        self._timing = timing
        self._seed = seed
        self.clockwork = clockwork
        self._handled_ns = clockwork.wall_ns() if handled_ns is None else handled_ns
        self.state: S = state
        self._say_next()

    @abstractmethod
    async def once(self) -> None:
        """A run; what it comes to, it tells. Raises: nothing of ours."""

    @abstractmethod
    async def tell(self, kind: Any, **detail: Any) -> None:
        """Tell an event about this."""

    @abstractmethod
    async def tell_missed(self, **detail: Any) -> None:
        """Tell of times that were missed."""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._follow_clock()
            now = step(self._timing, self._seed, self._handled_ns, self.clockwork.wall_ns())
            self._handled_ns = now.handled_ns
            if now.missed is not None:
                await self._missed(now.missed, NOT_SERVED, made_up_for=now.run_ns is not None)
            if now.run_ns is not None:
                await self._run_once()
            self._say_next()
            await trio.sleep(min(LOOK_S_MAX, now.wait_ns / NS_PER_S))

    def say(self, **members: Any) -> None:
        """Change the state."""
        self.state = msgspec.structs.replace(self.state, **members)

    async def _run_once(self) -> None:
        self.say(running=True)
        await self.once()
        self.say(running=False)
        missed = overlapped(self._timing, self._seed, self._handled_ns, self.clockwork.wall_ns())
        if missed is not None:
            self._handled_ns = missed.last_ns
            await self._missed(missed, OVERLAPPED, made_up_for=False)

    async def _follow_clock(self) -> None:
        """When it was set back: what is due after that is due, though it was once before."""
        back_ns = self._handled_ns - self.clockwork.wall_ns()
        if back_ns > GRACE_NS:
            self._handled_ns -= back_ns
            await self.tell("clock_jumped", back_s=back_ns // NS_PER_S)

    async def _missed(self, missed: Missed, reason: str, *, made_up_for: bool) -> None:
        self.say(missed=self.state.missed + missed.times)
        await self.tell_missed(
            count=missed.times if missed.counted else f"more than {missed.times}",
            first_due=iso(missed.first_ns),
            last_due=iso(missed.last_ns),
            reason=reason,
            made_up_for=made_up_for,
        )

    def _say_next(self) -> None:
        due_ns = self._timing.next_after(self._handled_ns)
        self.say(next_due=iso(self._timing.start_of(due_ns, self._seed)))

"""One freeze, from the first prepare to the last thaw. It decides; threads and other processes do.

The main thread of the freezer runs this, and waits for nothing but its ears: a member's thread that has done its step, the
asker, the guard, a signal, the time. So whatever hangs, at the deadline everybody is told to thaw.

Time: prepare has as long as the deadline, and so have, together, all from the first freeze to the first thaw.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal, Protocol

from vsnapfs.core.errors import (
    NotStillError,
    QuiesceError,
    TimedOutError,
    UsageError,
    VsnapfsError,
    from_object,
    to_object,
)
from vsnapfs.core.model import MemberOutcome, QuiescePhase
from vsnapfs.quiesce.member import THAW_S_MAX, Lifeline, Member
from vsnapfs.quiesce.messages import Ended, FromFreezer, Frozen, Phase
from vsnapfs.quiesce.seat import Seat, Step

TURN_S = 2.0
"""A thaw that takes longer does not hold up the next one in the order."""
GRACE_S = 0.2
"""The same at the deadline, for all of them together."""
SLACK_S = 1.0
"""So much later the guard believes that this process stands still."""

Noise = Literal["woken", "time", "thaw", "asker", "guard", "signal"]
"""What is heard: a member has done its step; the time is over; thaw, says the asker; the asker or the guard has died; this
process shall end."""

WHY: dict[Noise, VsnapfsError] = {
    "thaw": QuiesceError("nobody wanted it any more"),
    "asker": QuiesceError("who asked for it died"),
    "guard": QuiesceError("the guard died"),
    "signal": QuiesceError("the freezer was told to end"),
}


class Ears(Protocol):
    """Waits. Threads: ``wake`` any, ``hear`` one."""

    def wake(self) -> None: ...
    def hear(self, until: float) -> Noise: ...
    def say(self, message: FromFreezer) -> None:
        """To the asker; lost if it is not there any more."""


class Guard(Protocol):
    """Thaws if this process cannot."""

    def hold(self, index: int, lifeline: Lifeline) -> None: ...
    def forget(self, index: int) -> None: ...
    def expect(self, until: float) -> None:
        """By then it is told of another time, or this process has ended."""

    def kill_running(self) -> None:
        """Programs of members, of which it knows."""


class _Stop(Exception):  # noqa: N818  no error by itself
    def __init__(self, why: VsnapfsError) -> None:
        super().__init__(str(why))
        self.why = why


class Freeze:
    """Members in order; index: of a member in it."""

    def __init__(self, members: Sequence[Member], deadline_s: float, ears: Ears, guard: Guard) -> None:
        self._ears = ears
        self._guard = guard
        self._deadline_s = deadline_s
        self._seats = [Seat(member, ears.wake) for member in members]
        self._until = 0.0
        """Of the freeze, time.monotonic()."""

    def run(self) -> None:
        """Everything; the asker is told. When this returns nobody of whom it is known is frozen."""
        try:
            why = self._be_still()
        except Exception as error:  # noqa: BLE001  a defect of ours must not leave anybody frozen
            why = QuiesceError(f"the freezer broke: {error!r}")
        self._thaw()
        why = why or self._lost()
        self._ears.say(Ended(self._outcomes(), None if why is None else to_object(why)))
        self._linger()

    def _be_still(self) -> VsnapfsError | None:
        """All, until the asker has made its mark. Returns: why they were not."""
        try:
            self._prepare()
            self._freeze()
            self._ears.say(Frozen(self._outcomes()))
            self._say_phase("frozen")
            self._stay()
        except _Stop as stop:
            if not isinstance(stop.why, TimedOutError):  # then they end by themselves, and know why
                self._guard.kill_running()
            return stop.why
        return None

    def _lost(self) -> VsnapfsError | None:
        """Of one that was let go by somebody else, before the asker had made its mark or after it, nobody knows."""
        for seat in self._seats:
            done = seat.done(Step.THAW)
            if done is not None and isinstance(done.error, NotStillError):
                return _of_member(seat, done.error)
        return None

    def _outcomes(self) -> tuple[MemberOutcome, ...]:
        return tuple(seat.outcome() for seat in self._seats)

    def _prepare(self) -> None:
        self._say_phase("preparing")
        until = time.monotonic() + self._deadline_s
        for index, seat in enumerate(self._seats):
            self._do(index, seat, Step.PREPARE, until)

    def _freeze(self) -> None:
        self._say_phase("freezing")
        self._until = time.monotonic() + self._deadline_s
        self._guard.expect(self._until)
        for index, seat in enumerate(self._seats):
            self._do(index, seat, Step.FREEZE, self._until)

    def _do(self, index: int, seat: Seat, step: Step, until: float) -> None:
        lifeline = seat.member.lifeline()
        if lifeline is not None:
            self._guard.hold(index, lifeline)
        seat.begin(step, until)
        while (done := seat.done(step)) is None:
            self._listen(until, seat)
        if done.error is not None:
            raise _Stop(_of_member(seat, done.error))

    def _stay(self) -> None:
        """Until the asker has made its mark."""
        while True:
            noise = self._ears.hear(self._until)
            if noise == "thaw":
                return
            self._heed(noise, None)

    def _listen(self, until: float, seat: Seat) -> None:
        self._heed(self._ears.hear(until), seat)

    def _heed(self, noise: Noise, seat: Seat | None) -> None:
        """Raises: _Stop: it is over."""
        if noise == "woken":
            return
        if noise == "time":
            late = TimedOutError(f"the deadline of {self._deadline_s:g} s has passed")
            raise _Stop(late if seat is None else _of_member(seat, late))
        raise _Stop(WHY[noise])

    def _thaw(self) -> None:
        """Everybody, in reverse, each when the next one has thawed; but nobody is frozen for long because another hangs."""
        grace = max(self._until, time.monotonic() + GRACE_S)
        self._guard.expect(grace + SLACK_S)
        self._say_phase("thawing")
        begun = [(index, seat) for index, seat in enumerate(self._seats) if seat.is_begun(Step.PREPARE)]
        for _, seat in reversed(begun):
            seat.begin(Step.THAW)
            self._await_thaw(seat, min(grace, time.monotonic() + TURN_S))
        until = time.monotonic() + THAW_S_MAX
        self._guard.expect(until + SLACK_S)
        for index, seat in begun:
            self._await_thaw(seat, until)
            self._forget_if_thawed(index, seat)

    def _await_thaw(self, seat: Seat, until: float) -> None:
        while seat.done(Step.THAW) is None and time.monotonic() < until:
            self._ears.hear(until)

    def _forget_if_thawed(self, index: int, seat: Seat) -> None:
        """What is not sure to be thawed the guard tries once more."""
        done = seat.done(Step.THAW)
        if done is not None and (done.error is None or isinstance(done.error, NotStillError)):
            self._guard.forget(index)

    def _linger(self) -> None:
        """A freeze that did not return yet may still succeed: then its thaw follows, and only then is this over."""
        for index, seat in enumerate(self._seats):
            while seat.is_begun(Step.THAW) and seat.done(Step.THAW) is None:
                self._ears.hear(time.monotonic() + THAW_S_MAX)
            if seat.is_begun(Step.THAW):
                self._forget_if_thawed(index, seat)

    def _say_phase(self, phase: QuiescePhase) -> None:
        self._ears.say(Phase(phase))


def _of_member(seat: Seat, error: VsnapfsError) -> VsnapfsError:
    """The same error, saying whose it is: a refusal, or that time ran out; anything else is one."""
    message = f"{seat.member.kind} member {seat.member.name}: {error.message}"
    if isinstance(error, UsageError | TimedOutError | QuiesceError):
        return from_object(to_object(error) | {"message": message})
    return QuiesceError(message, hint=error.hint)

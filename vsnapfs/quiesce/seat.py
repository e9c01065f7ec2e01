"""A member and the thread that carries it out, so that one that hangs holds up nobody else."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from vsnapfs.core.errors import NotStillError, QuiesceError, TimedOutError, VsnapfsError
from vsnapfs.core.model import MemberOutcome, MemberResult
from vsnapfs.core.times import iso
from vsnapfs.quiesce.member import Member

ERROR_LENGTH_MAX = 200
"""The journal keeps it (policy.profiles.MEMBER_BYTES_MAX)."""


class Step(Enum):
    PREPARE = "prepared"
    FREEZE = "frozen"
    THAW = "thawed"


class Done(NamedTuple):
    at_ns: int
    error: VsnapfsError | None


class Seat:
    """Steps are done in the order they were begun, each after the one before. woken: called, in the member's thread, after each."""

    def __init__(self, member: Member, woken: Callable[[], None]) -> None:
        self.member = member
        self._woken = woken
        self._begun: set[Step] = set()
        self._done: dict[Step, Done] = {}
        self._steps: queue.SimpleQueue[tuple[Step, float]] = queue.SimpleQueue()
        threading.Thread(target=self._work, name=member.name, daemon=True).start()

    def begin(self, step: Step, until: float = 0.0) -> None:
        """until: time.monotonic(), of a step that has one."""
        self._begun.add(step)
        self._steps.put((step, until))

    def is_begun(self, step: Step) -> bool:
        return step in self._begun

    def done(self, step: Step) -> Done | None:
        """None: not yet."""
        return self._done.get(step)

    def outcome(self) -> MemberOutcome:
        """What is known now."""
        times = {step.value: iso(done.at_ns) for step, done in list(self._done.items()) if done.error is None}
        errors = [(step, done.error) for step, done in list(self._done.items()) if done.error is not None]
        return MemberOutcome(
            name=self.member.name,
            kind=self.member.kind,
            outcome=self._result(),
            consistency=self.member.consistency,
            error=str(errors[0][1])[:ERROR_LENGTH_MAX] if errors else self._missing(),
            **times,
        )

    def _result(self) -> MemberResult:
        for step in (Step.PREPARE, Step.FREEZE):
            done = self._done.get(step)
            if done is None:
                return "timed_out" if step in self._begun else "not_reached"
            if done.error is not None:
                return "timed_out" if isinstance(done.error, TimedOutError) else "failed"
        thawed = self._done.get(Step.THAW)
        return "lost" if thawed is not None and isinstance(thawed.error, NotStillError) else "frozen"

    def _missing(self) -> str:
        for step, what in ((Step.PREPARE, "prepared"), (Step.FREEZE, "frozen"), (Step.THAW, "thawed")):
            if step in self._begun and step not in self._done:
                return f"not {what} yet"
        return ""

    def _work(self) -> None:
        while True:
            step, until = self._steps.get()
            error = self._try(step, until)
            self._done[step] = Done(time.time_ns(), error)
            self._woken()
            if step is Step.THAW:
                return

    def _try(self, step: Step, until: float) -> VsnapfsError | None:
        try:
            match step:
                case Step.PREPARE:
                    self.member.prepare(until)
                case Step.FREEZE:
                    self.member.freeze(until)
                case Step.THAW:
                    self.member.thaw()
        except VsnapfsError as error:
            return error
        except Exception as error:  # noqa: BLE001  a defect of one member must not leave the others frozen
            return QuiesceError(f"{self.member.kind} broke: {error!r}")
        return None

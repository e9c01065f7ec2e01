"""Members, ears and a guard that do what a test tells them, and write down what they were asked."""

from __future__ import annotations

import queue
import threading
import time

from vsnapfs.core.model import Consistency, MemberFile
from vsnapfs.quiesce.freeze import Noise
from vsnapfs.quiesce.member import CommandLifeline, Lifeline
from vsnapfs.quiesce.messages import Ended, FromFreezer, Frozen, Phase

NEVER_S = 20.0


class FakeMember:
    """errors: raised in a step. hangs: steps that go on until ``let_go`` is set. log: shared, ``name step`` of what was begun."""

    kind = "fake"
    files: tuple[MemberFile, ...] = ()

    def __init__(
        self,
        name: str,
        log: list[str],
        *,
        errors: dict[str, Exception] | None = None,
        hangs: tuple[str, ...] = (),
        consistency: Consistency = "application",
    ) -> None:
        self.name = name
        self.consistency = consistency
        self.let_go = threading.Event()
        self._log = log
        self._errors = errors or {}
        self._hangs = hangs

    def prepare(self, until: float) -> None:
        self._do("prepare")

    def lifeline(self) -> Lifeline | None:
        return CommandLifeline(("thaw", self.name), {})

    def freeze(self, until: float) -> None:
        self._do("freeze")

    def thaw(self) -> None:
        self._do("thaw")

    def _do(self, step: str) -> None:
        self._log.append(f"{self.name} {step}")
        if step in self._hangs:
            assert self.let_go.wait(NEVER_S)
        if step in self._errors:
            raise self._errors[step]


class FakeEars:
    """Hears what a test has put in ``noises``; ``on_frozen`` is put there when all are still. said: to the asker."""

    def __init__(self, on_frozen: Noise | None = "thaw") -> None:
        self.noises: queue.SimpleQueue[Noise] = queue.SimpleQueue()
        self.said: list[FromFreezer] = []
        self.said_at: list[float] = []
        self._on_frozen = on_frozen

    def wake(self) -> None:
        self.noises.put("woken")

    def hear(self, until: float) -> Noise:
        left_s = max(0.0, until - time.monotonic())
        try:
            return self.noises.get(timeout=min(left_s, NEVER_S))
        except queue.Empty:
            assert left_s <= NEVER_S, "nobody will ever say anything"
            return "time"

    def say(self, message: FromFreezer) -> None:
        self.said.append(message)
        self.said_at.append(time.monotonic())
        if isinstance(message, Frozen) and self._on_frozen is not None:
            self.noises.put(self._on_frozen)

    @property
    def ended(self) -> Ended:
        (found,) = [message for message in self.said if isinstance(message, Ended)]
        return found

    @property
    def phases(self) -> list[str]:
        return [message.phase for message in self.said if isinstance(message, Phase)]

    def error(self) -> tuple[str, str]:
        """Class and message of the end."""
        assert self.ended.error is not None
        return self.ended.error["kind"], self.ended.error["message"]


class FakeGuard:
    """log: what it was told."""

    def __init__(self, log: list[str]) -> None:
        self.held: set[int] = set()
        self.expected: list[float] = []
        self._log = log

    def hold(self, index: int, lifeline: Lifeline) -> None:
        if index not in self.held:
            self._log.append(f"guard holds {index}")
        self.held.add(index)

    def forget(self, index: int) -> None:
        self.held.discard(index)

    def expect(self, until: float) -> None:
        self.expected.append(until)

    def kill_running(self) -> None:
        self._log.append("guard kills")

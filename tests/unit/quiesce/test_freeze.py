"""One freeze with members, asker, guard and clock of the test's own: who is asked what, in which order, and what is told."""

from __future__ import annotations

import threading
import time

import pytest

from tests.unit.quiesce.fakes import FakeEars, FakeGuard, FakeMember
from vsnapfs.core.errors import BusyError, NotStillError, QuiesceError, TimedOutError, UsageError, VsnapfsError
from vsnapfs.core.times import parse_iso
from vsnapfs.quiesce.freeze import SLACK_S, Freeze, Noise
from vsnapfs.quiesce.member import THAW_S_MAX
from vsnapfs.quiesce.messages import Frozen

pytestmark = pytest.mark.unit

LONG_S = 30.0
SHORT_S = 2.0
"""Of a deadline that is met by whoever does not hang, on a slow machine too."""


class Ground:
    """A freeze of members a, b, c; ``log``: what was done, by everybody, in order."""

    def __init__(
        self, of: dict[str, FakeMember] | None = None, *, deadline_s: float = LONG_S, on_frozen: Noise | None = "thaw"
    ) -> None:
        of = of or {}
        self.log: list[str] = []
        self.members = {name: of.get(name) or FakeMember(name, self.log) for name in "abc"}
        for member in of.values():
            member._log = self.log
        self.ears = FakeEars(on_frozen)
        self.guard = FakeGuard(self.log)
        self.freeze = Freeze(list(self.members.values()), deadline_s, self.ears, self.guard)

    def run(self) -> None:
        self.freeze.run()

    def outcomes(self) -> list[str]:
        return [member.outcome for member in self.ears.ended.members]

    def steps(self, step: str) -> list[str]:
        return [line[0] for line in self.log if line.endswith(step)]


def failing(name: str, step: str, error: Exception) -> dict[str, FakeMember]:
    return {name: FakeMember(name, [], errors={step: error})}


def hanging(name: str, step: str) -> dict[str, FakeMember]:
    return {name: FakeMember(name, [], hangs=(step,))}


def test_all_are_prepared_then_frozen_in_order_then_thawed_in_reverse() -> None:
    ground = Ground()
    ground.run()
    done = [line for line in ground.log if not line.startswith("guard")]
    assert done == [
        *(f"{name} prepare" for name in "abc"),
        *(f"{name} freeze" for name in "abc"),
        *(f"{name} thaw" for name in "cba"),
    ]
    assert ground.ears.phases == ["preparing", "freezing", "frozen", "thawing"]
    assert ground.ears.ended.error is None
    assert ground.outcomes() == ["frozen"] * 3
    assert ground.guard.held == set()
    for member in ground.ears.ended.members:
        assert member.prepared is not None
        assert member.frozen is not None
        assert member.thawed is not None
        assert parse_iso(member.prepared) <= parse_iso(member.frozen) <= parse_iso(member.thawed)
        assert member.error == ""


def test_the_guard_knows_of_a_member_before_anything_is_done_to_it() -> None:
    ground = Ground()
    ground.run()
    for index, name in enumerate("abc"):
        assert ground.log.index(f"guard holds {index}") < ground.log.index(f"{name} prepare")


def test_the_guard_is_told_by_when_all_are_let_go() -> None:
    ground = Ground()
    before = time.monotonic()
    ground.run()
    frozen, begun, thawed = ground.guard.expected
    assert before + LONG_S <= frozen <= time.monotonic() + LONG_S
    assert frozen < begun < frozen + 2 * SLACK_S, "from the deadline on it does not matter what this process waits for"
    assert before + THAW_S_MAX < thawed < time.monotonic() + THAW_S_MAX + 2 * SLACK_S


@pytest.mark.parametrize(
    ("error", "outcome", "told"),
    [
        (QuiesceError("no"), "failed", "QuiesceError"),
        (TimedOutError("late"), "timed_out", "TimedOutError"),
        (UsageError("not that"), "failed", "UsageError"),
        (BusyError("by somebody"), "failed", "QuiesceError"),
        (ZeroDivisionError("defect"), "failed", "QuiesceError"),
    ],
)
@pytest.mark.parametrize("step", ["prepare", "freeze"])
def test_one_that_fails_has_all_others_let_go(step: str, error: Exception, outcome: str, told: str) -> None:
    ground = Ground(failing("b", step, error))
    ground.run()
    reached = ["frozen" if step == "freeze" else "not_reached", outcome, "not_reached"]
    assert ground.outcomes() == reached
    kind, message = ground.ears.error()
    assert (kind, message.startswith("fake member b: ")) == (told, True)
    begun = "abc" if step == "freeze" else "ab"
    assert ground.steps("thaw") == list(reversed(begun))
    assert not any(isinstance(message, Frozen) for message in ground.ears.said)
    assert ground.guard.held == set()


@pytest.mark.parametrize("step", ["prepare", "freeze"])
def test_one_that_hangs_does_not_keep_the_others(step: str) -> None:
    ground = Ground(hanging("b", step), deadline_s=SHORT_S)
    thread = threading.Thread(target=ground.run)
    began = time.monotonic()
    thread.start()
    try:
        while "a thaw" not in ground.log:
            assert time.monotonic() < began + LONG_S
            time.sleep(0.002)
        assert "b thaw" not in ground.log, "its thaw waits for its freeze"
        assert ground.guard.held >= {1}
    finally:
        ground.members["b"].let_go.set()
        thread.join(LONG_S)
    assert ground.steps("thaw")[-1] == "b"
    assert ground.ears.error()[0] == "TimedOutError"
    assert ground.guard.held == set(), "what was frozen late was thawed, and the guard has forgotten it"


def test_a_thaw_that_hangs_does_not_keep_the_others() -> None:
    ground = Ground(hanging("c", "thaw"), deadline_s=SHORT_S)
    thread = threading.Thread(target=ground.run)
    thread.start()
    try:
        began = time.monotonic()
        while "a thaw" not in ground.log:
            assert time.monotonic() < began + LONG_S
            time.sleep(0.002)
    finally:
        ground.members["c"].let_go.set()
        thread.join(LONG_S)
    assert ground.ears.ended.error is None, "all were still until the mark was made"


def test_a_thaw_that_fails_is_told_and_tried_again_by_the_guard() -> None:
    ground = Ground(failing("b", "thaw", QuiesceError("cannot")))
    ground.run()
    assert ground.ears.ended.error is None
    assert ground.outcomes() == ["frozen"] * 3
    assert ground.ears.ended.members[1].error == "cannot"
    assert ground.guard.held == {1}


def test_one_that_somebody_else_has_let_go_makes_it_worth_nothing() -> None:
    ground = Ground(failing("b", "thaw", NotStillError("was thawed")))
    ground.run()
    assert ground.ears.error() == ("NotStillError", "fake member b: was thawed")
    assert ground.outcomes() == ["frozen", "lost", "frozen"]
    assert ground.guard.held == set()


def test_at_the_deadline_all_are_let_go() -> None:
    ground = Ground(deadline_s=SHORT_S, on_frozen=None)
    ground.run()
    assert ground.ears.error() == ("TimedOutError", "the deadline of 2 s has passed")
    assert ground.outcomes() == ["frozen"] * 3
    assert ground.steps("thaw") == list("cba")
    frozen_at = next(at for at, m in zip(ground.ears.said_at, ground.ears.said, strict=True) if isinstance(m, Frozen))
    assert ground.ears.said_at[-1] - frozen_at >= SHORT_S / 2


@pytest.mark.parametrize(
    ("noise", "said"),
    [
        ("asker", "who asked for it died"),
        ("guard", "the guard died"),
        ("signal", "the freezer was told to end"),
    ],
)
def test_who_dies_has_all_let_go(noise: Noise, said: str) -> None:
    ground = Ground(on_frozen=noise)
    ground.run()
    assert ground.ears.error() == ("QuiesceError", said)
    assert ground.steps("thaw") == list("cba")
    assert ground.log.index("guard kills") < ground.log.index("c thaw")


def test_nobody_is_frozen_for_an_asker_that_has_gone_before() -> None:
    ground = Ground()
    ground.ears.noises.put("asker")
    ground.run()
    assert ground.steps("freeze") == []
    assert ground.steps("thaw") == ["a"], "who was begun with"


def test_a_defect_of_the_freezer_leaves_nobody_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise PermissionError("not yours to kill")

    ground = Ground(failing("b", "freeze", QuiesceError("no")))
    monkeypatch.setattr(ground.guard, "kill_running", broken)
    ground.run()
    assert ground.steps("thaw") == list("cba")


def test_a_long_error_is_cut() -> None:
    error: VsnapfsError = QuiesceError("x" * 5000)
    ground = Ground(failing("a", "freeze", error))
    ground.run()
    assert len(ground.ears.ended.members[0].error) == 200

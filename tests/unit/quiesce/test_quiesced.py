"""The asker's side with a real freezer and guard, and commands as members."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from tests.support.processes import child, children_of, command_of, environment, is_alive
from tests.support.waiting import eventually
from vsnapfs.core.errors import QuiesceError, TimedOutError
from vsnapfs.core.model import QuiescePhase
from vsnapfs.core.times import parse_iso
from vsnapfs.policy.profiles import CommandSettings, Profile
from vsnapfs.quiesce.member import Occasion
from vsnapfs.quiesce.quiesce import Listener, NotStill, quiesced

pytestmark = pytest.mark.unit

LATE_S = 20.0


class Ground:
    """A profile whose commands write down when they ran."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def profile(self, *, deadline: str = "20s", freeze: str = "true", thaw: str = "true") -> Profile:
        return Profile(members=(self._command("a"), self._command("b", freeze, thaw)), deadline=deadline)

    def _command(self, name: str, freeze: str = "true", thaw: str = "true") -> CommandSettings:
        note = f"echo {name}-$VSNAPFS_PHASE >> {self.directory / 'ran'}; "
        return CommandSettings(
            name=name,
            freeze=("/bin/sh", "-c", f"{note}{freeze}"),
            thaw=("/bin/sh", "-c", f"{note}{thaw}"),
            consistency="application",
        )

    def ran(self) -> list[str]:
        return (self.directory / "ran").read_text().split() if (self.directory / "ran").exists() else []


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


def occasion(profile: Profile) -> Occasion:
    return Occasion(repository="/r", profile="p", bookmark="b", deadline_s=profile.deadline_s)


def freezer_and_guard(asker: int | None = None) -> tuple[int, int]:
    """Of the quiesce that is under way in this process, or in another."""
    asker = asker or os.getpid()
    eventually(lambda: len(freezers_of(asker)) == 1, "one freezer, and none of before")
    (freezer,) = freezers_of(asker)
    (guard,) = freezers_of(freezer)
    return freezer, guard


def freezers_of(parent: int) -> list[int]:
    """What it has started and has not ended. A guard is a fork of a freezer, and has its words."""
    return [pid for pid in children_of(parent) if b"vsnapfs.quiesce.freezer" in command_of(pid) and is_alive(pid)]


ALL = ["a-freeze", "b-freeze", "b-thaw", "a-thaw"]


def test_all_are_still_while_the_block_runs(ground: Ground) -> None:
    profile = ground.profile()
    with quiesced(profile, occasion(profile), []) as still:
        assert ground.ran() == ALL[:2]
        assert [member.thawed for member in still.members] == [None, None]
        at_ns = time.time_ns()
        freezer, guard = freezer_and_guard()
    assert ground.ran() == ALL
    for member in still.members:
        assert member.outcome == "frozen"
        assert member.frozen is not None
        assert member.thawed is not None
        assert parse_iso(member.frozen) < at_ns < parse_iso(member.thawed)
    eventually(lambda: not is_alive(freezer) and not is_alive(guard), "the end of both")


def test_who_waits_is_told_how_it_goes(ground: Ground) -> None:
    class Told(Listener):
        def __init__(self) -> None:
            self.phases: list[QuiescePhase] = []
            self.remarks: list[str] = []
            self.alives = 0

        def phase(self, phase: QuiescePhase) -> None:
            self.phases.append(phase)

        def remark(self, text: str) -> None:
            self.remarks.append(text)

        def alive(self) -> None:
            self.alives += 1

    told = Told()
    profile = ground.profile(freeze=f"sleep 1; sleep 50 & echo $! > {ground.directory / 'pid'}")
    with quiesced(profile, occasion(profile), [], told):
        os.kill(int((ground.directory / "pid").read_text()), signal.SIGKILL)
    assert told.phases == ["preparing", "freezing", "frozen", "thawing"]
    assert told.alives > 0
    assert "b: the freeze command /bin/sh has left processes behind, which nobody waits for" in told.remarks


def test_a_block_that_fails_has_all_let_go(ground: Ground) -> None:
    profile = ground.profile()
    with pytest.raises(ZeroDivisionError), quiesced(profile, occasion(profile), []):
        raise ZeroDivisionError
    assert ground.ran() == ALL


def test_a_listener_that_fails_has_all_let_go(ground: Ground) -> None:
    class Failing(Listener):
        def alive(self) -> None:
            if "b-freeze" in ground.ran():
                raise KeyboardInterrupt

    profile = ground.profile(freeze="sleep 60")
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), quiesced(profile, occasion(profile), [], Failing()):
        raise AssertionError("it was frozen")
    assert time.monotonic() - began < LATE_S / 2, "what hangs is killed"
    assert ground.ran() == ALL


def test_one_that_fails(ground: Ground) -> None:
    profile = ground.profile(freeze="echo why; exit 4")
    with pytest.raises(NotStill) as caught, quiesced(profile, occasion(profile), []):
        raise AssertionError("it was frozen")
    assert isinstance(caught.value.error, QuiesceError)
    assert str(caught.value.error) == "command member b: the freeze command /bin/sh failed with status 4: why"
    assert [member.outcome for member in caught.value.members] == ["frozen", "failed"]
    assert ground.ran() == ALL


def test_a_block_that_takes_too_long_is_worth_nothing(ground: Ground) -> None:
    profile = ground.profile(deadline="200ms")
    with pytest.raises(NotStill) as caught, quiesced(profile, occasion(profile), []):
        eventually(lambda: ground.ran() == ALL, "the thaw")
    assert isinstance(caught.value.error, TimedOutError)


@pytest.mark.parametrize(
    ("victims", "number"),
    [
        ("freezer", signal.SIGKILL),
        ("freezer", signal.SIGSEGV),
        ("freezer", signal.SIGTERM),
        ("guard", signal.SIGKILL),
        ("guard", signal.SIGSEGV),
    ],
)
def test_one_of_the_two_that_dies_has_all_let_go(ground: Ground, victims: str, number: signal.Signals) -> None:
    profile = ground.profile()
    freezer = guard = 0

    def kill() -> None:
        nonlocal freezer, guard
        with quiesced(profile, occasion(profile), []):
            freezer, guard = freezer_and_guard()
            os.kill(freezer if victims == "freezer" else guard, number)
            eventually(lambda: ground.ran() == ALL, "the thaw")

    with pytest.raises(NotStill) as caught:
        kill()
    assert isinstance(caught.value.error, QuiesceError)
    eventually(lambda: not is_alive(freezer) and not is_alive(guard), "the end of both")


@pytest.mark.parametrize("value", [b"\xe9", b"x" * 100_000], ids=["no text", "long"])
def test_whatever_is_in_the_environment(ground: Ground, value: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guard that cannot be told of a member would have nobody made still."""
    for number in range(4):
        monkeypatch.setenv(f"STRANGE_{number}", os.fsdecode(value))
    profile = ground.profile(freeze='test -n "$STRANGE_3"')
    with quiesced(profile, occasion(profile), []):
        pass
    assert ground.ran() == ALL


def test_a_freezer_that_stands_still_while_it_thaws(ground: Ground) -> None:
    profile = ground.profile(deadline="500ms", thaw="grep -q guard /proc/$PPID/comm || kill -STOP $PPID")
    with pytest.raises(NotStill), quiesced(profile, occasion(profile), []):
        pass
    assert eventually(lambda: ground.ran()[-1] == "a-thaw", "the guard's thaw")


ASKER = """
import sys, time
import msgspec
from vsnapfs.policy.profiles import Profile
from vsnapfs.quiesce.member import Occasion
from vsnapfs.quiesce.quiesce import quiesced
profile = msgspec.json.decode(sys.argv[1], type=Profile)
with quiesced(profile, Occasion(repository="/r", profile="p", bookmark="b", deadline_s=20), []):
    print("still", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("also", ["", "freezer"])
def test_an_asker_that_dies_has_all_let_go(ground: Ground, also: str) -> None:
    """also: who is killed right before."""
    command = [sys.executable, "-c", ASKER, msgspec.json.encode(ground.profile()).decode()]
    with child(command, env=environment(), stdout=subprocess.PIPE) as asker:
        assert asker.stdout is not None
        assert asker.stdout.readline() == b"still\n"
        freezer, guard = freezer_and_guard(asker.pid)
        if also:
            os.kill(freezer, signal.SIGKILL)
        asker.kill()
        eventually(lambda: ground.ran() == ALL, "the thaw")
        eventually(lambda: not is_alive(freezer) and not is_alive(guard), "the end of both")
        asker.stdout.close()

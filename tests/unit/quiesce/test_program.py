"""Programs that hang, flood, fork away and ignore signals: run for a bounded time, read up to a bound, ended with their group."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.support.processes import is_alive
from tests.support.waiting import eventually
from vsnapfs.core.errors import QuiesceError, TimedOutError
from vsnapfs.policy.profiles import CommandSettings
from vsnapfs.quiesce import program
from vsnapfs.quiesce.command import CommandMember
from vsnapfs.quiesce.member import CommandLifeline, Occasion

pytestmark = pytest.mark.unit

SOON_S = 2.0
"""A shell has begun by then, and written what it has to, on a slow machine too."""
LATE_S = 30.0
OCCASION = Occasion(repository="/r", profile="p", bookmark="b", deadline_s=3)


class Watch:
    """Groups that the guard was told of."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.ended: list[int] = []

    def running(self, group: int) -> None:
        self.begun.append(group)

    def stopped(self, group: int) -> None:
        self.ended.append(group)


def run(script: str, seconds: float = LATE_S, *, bounded: bool = True) -> program.Ended:
    watch = Watch()
    ended = program.run(["/bin/sh", "-c", script], os.environ, time.monotonic() + seconds, watch, bounded=bounded)
    assert watch.begun == watch.ended
    assert len(watch.begun) == 1
    return ended


def test_one_that_ends() -> None:
    assert run("exit 0") == program.Ended(0, False, False, "")
    assert run("echo one; echo; echo 'two '; exit 7") == program.Ended(7, False, False, "two")
    assert run("kill -9 $$") == program.Ended(-9, False, False, "")
    assert run("printf 'a\\033[1m\\000b' >&2; exit 1").said == "a?[1m?b"


def test_it_reads_nothing_and_stands_in_the_root() -> None:
    assert run("pwd; cat").said == "/"


def test_the_last_line_of_much_is_kept(tmp_path: Path) -> None:
    ended = run("seq 1 100000; echo the end")
    assert ended == program.Ended(0, False, False, "the end")
    assert len(run(f"echo {'x' * 5000}").said) == program.LINE_LENGTH_MAX


def test_one_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    ended = run(f"sleep 60 & echo $! > {pid}; echo waiting; wait", SOON_S)
    assert (ended.status, ended.said) == (None, "waiting")
    eventually(lambda: not is_alive(int(pid.read_text())), "the end of its child")


def test_one_that_ignores_signals_is_killed(tmp_path: Path) -> None:
    began = time.monotonic()
    assert run("trap '' TERM INT HUP; while :; do sleep 1; done", SOON_S).status is None
    assert time.monotonic() - began < LATE_S / 2


def test_one_that_prints_for_ever_is_killed_long_before_its_time() -> None:
    began = time.monotonic()
    ended = run("yes", LATE_S)
    assert (ended.status, ended.flooded) == (None, True)
    assert time.monotonic() - began < LATE_S / 2


def test_one_that_lets_go_may_print_what_it_likes() -> None:
    assert run("yes | head -c 3000000; echo done", bounded=False) == program.Ended(0, False, False, "done")


def test_one_that_closes_its_output_is_waited_for() -> None:
    assert run("exec >&- 2>&-; sleep 0.2; exit 5").status == 5


def test_what_it_leaves_behind_is_told_and_not_waited_for(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    began = time.monotonic()
    ended = run(f"sleep 60 & echo $! > {pid}; exit 0")
    left = int(pid.read_text())
    try:
        assert (ended.status, ended.left) == (0, True)
        assert time.monotonic() - began < LATE_S / 2
        assert is_alive(left)
    finally:
        os.kill(left, 9)


def test_nothing_is_run_that_the_guard_was_not_told_of(tmp_path: Path) -> None:
    """The group is killed as soon as it is told, before the program is let loose."""
    made = tmp_path / "made"

    class Killing(Watch):
        def running(self, group: int) -> None:
            super().running(group)
            assert not made.exists()
            program.kill_group(group)

    ended = program.run(["/bin/touch", str(made)], os.environ, time.monotonic() + LATE_S, Killing())
    assert ended.status == -9
    assert not made.exists()


def test_what_became_another_users_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as what sudo runs, where we are not root."""

    def refuse(_group: int, _signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "killpg", refuse)
    program.kill_group(1)
    ended = run("true")
    assert (ended.status, ended.left) == (0, True)


def member(directory: Path, *, prepare: str = "", freeze: str = "true", thaw: str = "true") -> CommandMember:
    """Each script writes its phase into the file ``ran``."""
    note = f"echo $VSNAPFS_PHASE >> {directory / 'ran'}; "

    def remark(text: str) -> None:
        (directory / "remarks").write_text(text)

    settings = CommandSettings(
        name="m",
        prepare=("/bin/sh", "-c", note + prepare) if prepare else (),
        freeze=("/bin/sh", "-c", note + freeze),
        thaw=("/bin/sh", "-c", note + thaw),
    )
    return CommandMember(settings, OCCASION, Watch(), remark)


def ran(directory: Path) -> list[str]:
    return (directory / "ran").read_text().split() if (directory / "ran").exists() else []


def later(seconds: float = LATE_S) -> float:
    return time.monotonic() + seconds


def test_a_member_runs_its_commands(tmp_path: Path) -> None:
    it = member(tmp_path, prepare="true")
    it.prepare(later())
    it.freeze(later())
    it.thaw()
    it.thaw()
    assert ran(tmp_path) == ["prepare", "freeze", "thaw"]


def test_what_was_not_begun_is_not_thawed(tmp_path: Path) -> None:
    it = member(tmp_path)
    assert it.lifeline() is None
    it.prepare(later())
    assert isinstance(it.lifeline(), CommandLifeline)
    it.thaw()
    with pytest.raises(TimedOutError):
        it.freeze(time.monotonic())
    it.thaw()
    assert ran(tmp_path) == []


def test_what_failed_half_way_is_thawed(tmp_path: Path) -> None:
    it = member(tmp_path, prepare="exit 2")
    assert isinstance(it.lifeline(), CommandLifeline)
    with pytest.raises(QuiesceError, match="the prepare command /bin/sh failed with status 2"):
        it.prepare(later())
    it.thaw()
    assert ran(tmp_path) == ["prepare", "thaw"]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'no way'; exit 3", "the freeze command /bin/sh failed with status 3: no way"),
        ("kill -SEGV $$", "the freeze command /bin/sh was killed by SIGSEGV"),
        ("exec yes", "the freeze command /bin/sh printed more than 1 MiB and was killed"),
    ],
)
def test_what_is_told_of_a_failure(tmp_path: Path, script: str, said: str) -> None:
    it = member(tmp_path, freeze=script)
    it.prepare(later())
    with pytest.raises(QuiesceError) as caught:
        it.freeze(later())
    assert str(caught.value) == said


def test_one_that_hangs_ran_out_of_time(tmp_path: Path) -> None:
    it = member(tmp_path, freeze="echo waiting; sleep 60")
    it.prepare(later())
    with pytest.raises(TimedOutError, match=r"did not end in time and was killed: waiting"):
        it.freeze(later(SOON_S))


def test_what_forks_away_is_noticed(tmp_path: Path) -> None:
    it = member(tmp_path, freeze=f"sleep 60 & echo $! > {tmp_path / 'pid'}")
    it.prepare(later())
    it.freeze(later())
    os.kill(int((tmp_path / "pid").read_text()), 9)
    assert "m: the freeze command /bin/sh has left processes behind" in (tmp_path / "remarks").read_text()


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    settings = CommandSettings(name="m", freeze=("/nowhere/at/all",), thaw=("true",))
    with pytest.raises(QuiesceError, match="there is no program '/nowhere/at/all'"):
        CommandMember(settings, OCCASION, Watch(), print).prepare(later())


def test_what_it_is_all_for_is_in_the_environment(tmp_path: Path) -> None:
    it = member(tmp_path, freeze=f"env > {tmp_path / 'env'}")
    it.prepare(later())
    it.freeze(later())
    eventually((tmp_path / "env").exists, "the environment")
    told = {line for line in (tmp_path / "env").read_text().splitlines() if line.startswith("VSNAPFS_")}
    assert told >= {
        "VSNAPFS_REPO=/r",
        "VSNAPFS_PROFILE=p",
        "VSNAPFS_BOOKMARK=b",
        "VSNAPFS_DEADLINE_S=3",
        "VSNAPFS_MEMBER=m",
        "VSNAPFS_PHASE=freeze",
    }

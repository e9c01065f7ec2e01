"""The guard: it thaws what it was told to hold when the freezer dies, or stands still. Freezers here are small programs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import environment, is_alive
from tests.support.waiting import eventually

pytestmark = pytest.mark.unit

FREEZER = """
import os, signal, subprocess, sys, time
from pathlib import Path
from vsnapfs.quiesce import guard
from vsnapfs.quiesce.member import CommandLifeline
directory = Path(sys.argv[1])
def touch(name):
    return CommandLifeline(("/bin/sh", "-c", f"echo {name} >> {directory / 'thawed'}; " + sys.argv[2]), {"PATH": "/usr/bin:/bin"})
line = guard.start()
(directory / "guard").write_text(str(line.pid))
"""
DIES = "os.kill(os.getpid(), signal.SIGKILL)\n"


def play(directory: Path, script: str, *, thaw: str = "true") -> int:
    """Run a freezer; returns its exit status when the guard has ended too."""
    done = subprocess.run(
        [sys.executable, "-c", FREEZER + script, str(directory), thaw],
        env=environment(), check=False, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    eventually(lambda: not is_alive(int((directory / "guard").read_text())), "the guard's end", deadline_s=20)
    return done.returncode


def thawed(directory: Path) -> list[str]:
    return (directory / "thawed").read_text().split() if (directory / "thawed").exists() else []


def test_a_freezer_that_is_killed_leaves_nothing_frozen(tmp_path: Path) -> None:
    script = 'for i in range(3):\n    line.hold(i, touch(f"m{i}"))\nline.forget(1)\n' + DIES
    assert play(tmp_path, script) == -signal.SIGKILL
    assert thawed(tmp_path) == ["m2", "m0"], "in reverse, and not what was to be forgotten"


def test_what_was_held_twice_is_thawed_once(tmp_path: Path) -> None:
    play(tmp_path, 'line.hold(0, touch("a"))\nline.hold(0, touch("a"))\n' + DIES)
    assert thawed(tmp_path) == ["a"]


def test_a_freezer_that_ends_well_leaves_nothing_to_do(tmp_path: Path) -> None:
    assert play(tmp_path, 'line.hold(0, touch("a"))\nline.forget(0)\nline.close()\n') == 0
    assert thawed(tmp_path) == []


def test_what_was_not_forgotten_at_the_end_is_thawed_once_more(tmp_path: Path) -> None:
    assert play(tmp_path, 'line.hold(0, touch("a"))\nline.close()\n') == 0
    assert thawed(tmp_path) == ["a"]


def test_what_runs_is_killed_first(tmp_path: Path) -> None:
    script = (
        'child = subprocess.Popen(["sleep", "60"], start_new_session=True)\n'
        '(directory / "child").write_text(str(child.pid))\n'
        'line.running(child.pid)\nline.hold(0, touch("a"))\n' + DIES
    )
    play(tmp_path, script)
    eventually(lambda: not is_alive(int((tmp_path / "child").read_text())), "the end of what ran")
    assert thawed(tmp_path) == ["a"]


def test_what_has_stopped_is_not_killed(tmp_path: Path) -> None:
    script = (
        'child = subprocess.Popen(["sleep", "60"], start_new_session=True)\n'
        '(directory / "child").write_text(str(child.pid))\n'
        "line.running(child.pid)\nline.stopped(child.pid)\n" + DIES
    )
    play(tmp_path, script)
    child = int((tmp_path / "child").read_text())
    try:
        assert is_alive(child)
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_freezer_that_stands_still_at_the_deadline_is_killed(tmp_path: Path) -> None:
    script = 'line.hold(0, touch("a"))\nline.expect(time.monotonic() + 0.2)\nos.kill(os.getpid(), signal.SIGSTOP)\n'
    assert play(tmp_path, script) == -signal.SIGKILL
    assert thawed(tmp_path) == ["a"]


def test_a_freezer_that_thaws_in_time_is_left_alone(tmp_path: Path) -> None:
    script = "line.expect(time.monotonic() + 0.1)\nline.expect(time.monotonic() + 60)\ntime.sleep(0.6)\nline.close()\n"
    assert play(tmp_path, script) == 0


def test_a_guard_that_was_late_itself_reads_on_before_it_kills(tmp_path: Path) -> None:
    """As on a machine that had no time for it: what the freezer has said meanwhile counts."""
    script = (
        "os.kill(line.pid, signal.SIGSTOP)\n"
        "line.expect(time.monotonic() + 0.1)\nline.expect(time.monotonic() + 60)\ntime.sleep(0.6)\n"
        "os.kill(line.pid, signal.SIGCONT)\ntime.sleep(0.3)\nline.close()\n"
    )
    assert play(tmp_path, script) == 0


def test_a_guard_is_not_ended_by_a_terminal(tmp_path: Path) -> None:
    script = (
        'line.hold(0, touch("a"))\n'
        "for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):\n    os.kill(line.pid, number)\n"
        "time.sleep(0.1)\nos.kill(line.pid, 0)\n" + DIES
    )
    assert play(tmp_path, script) == -signal.SIGKILL
    assert thawed(tmp_path) == ["a"]


def test_a_thaw_that_hangs_does_not_keep_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = 'guard.THAW_S_MAX = 1\nline = guard.start()\nline.hold(0, touch("a"))\nline.hold(1, touch("b"))\n' + DIES
    assert play(tmp_path, script, thaw="exec sleep 60") == -signal.SIGKILL
    assert eventually(lambda: thawed(tmp_path) == ["b", "a"], "both thaws")


def test_a_program_that_is_not_there_does_not_keep_the_others(tmp_path: Path) -> None:
    script = 'line.hold(0, touch("a"))\nline.hold(1, CommandLifeline(("/nowhere",), {}))\n' + DIES
    play(tmp_path, script)
    assert thawed(tmp_path) == ["a"]

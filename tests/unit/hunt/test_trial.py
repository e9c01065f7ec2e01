"""Real tests, each in the care of a warden: how they end, what they print, and that nothing of them is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from tests.support.processes import environment, is_alive
from tests.support.waiting import eventually
from vsnapfs.core.errors import HuntAbortedError, TimedOutError, VsnapfsError
from vsnapfs.core.hunt import Verdict
from vsnapfs.hunt import trial, warden
from vsnapfs.hunt.trial import Judgement, Trial, judged, last_line, run

pytestmark = pytest.mark.unit

LONG_S = 60.0
SHORT_S = 0.5
READY_S = 2.0
"""Enough for a shell to begin, also where others have the processors."""
SERVER = """
import os, signal, sys, time
pid_path, then = sys.argv[1:]
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with open(pid_path, "w") as file:
            file.write(f"{os.getpid()}\\n")
        time.sleep(60)
    os._exit(0)
os.wait()
while not (os.path.exists(pid_path) and os.path.getsize(pid_path)):
    time.sleep(0.01)
exec(then)
"""
"""A test that starts a server, which is neither in its group nor its child, and then ends or does not."""


def ran(*words: str, output: Path, timeout_s: float = LONG_S) -> Trial:
    return trio.run(run, words, os.environ | {"SAID": "hello"}, timeout_s, output)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "output"


def pid_in(path: Path) -> int:
    """Written there by a process, as soon as it has."""
    return int(eventually(lambda: path.exists() and path.read_text().endswith("\n") and path.read_text(), f"{path}"))


def writes_pid(path: Path) -> str:
    return f"open({str(path)!r}, 'w').write(f'{{os.getpid()}}\\n'); time.sleep({LONG_S})"


@pytest.mark.parametrize("status", [0, 1, 124, 125, 126, 200])
def test_the_exit_status_is_told(output: Path, status: int) -> None:
    told = ran("sh", "-c", f"echo $SAID; echo again >&2; exit {status}", output=output)
    assert (told.how, told.status, told.left) == ("ended", status, 0)
    assert output.read_text() == "hello\nagain\n"
    assert last_line(output) == "again"
    assert output.stat().st_mode & 0o777 == 0o600


def test_a_signal_is_told(output: Path) -> None:
    assert ran("sh", "-c", "kill -SEGV $$", output=output).status == -signal.SIGSEGV


@pytest.mark.parametrize("program", ["/no/such/program", "/etc/passwd"])
def test_a_program_that_cannot_be_run_is_told(output: Path, program: str) -> None:
    told = ran(program, output=output)
    assert (told.how, told.status) == ("failed", None)
    assert program in told.error


def test_a_test_has_no_input_and_the_signals_of_a_fresh_process(output: Path) -> None:
    ignored = ran("sh", "-c", "read line; grep SigIgn /proc/self/status", output=output)
    assert ignored.status == 0
    mask = int(output.read_text().split()[1], 16)
    assert not mask & (1 << (signal.SIGTERM - 1) | 1 << (signal.SIGINT - 1) | 1 << (signal.SIGHUP - 1))


@pytest.mark.parametrize(
    ("then", "how", "status", "left"), [("sys.exit(7)", "ended", 7, 1), ("time.sleep(60)", "timeout", None, 0)]
)
def test_a_server_that_a_test_has_left_is_killed(
    output: Path, tmp_path: Path, then: str, how: str, status: int | None, left: int
) -> None:
    pid_path = tmp_path / "pid"
    told = ran(
        sys.executable, "-c", SERVER, str(pid_path), then, output=output, timeout_s=LONG_S if how == "ended" else 5.0
    )
    assert (told.how, told.status, told.left, told.stuck) == (how, status, left, 0)
    assert not is_alive(pid_in(pid_path))


MISSED = """
import os, time
from vsnapfs.hunt import warden
look, missed = warden.children, [True]
warden.children = lambda: [] if missed and missed.pop() else look()
if os.fork() == 0:
    os.closerange(0, 3)
    time.sleep(60)
    os._exit(0)
assert warden.kill_all() == 0
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("none")
"""


def test_a_process_that_one_look_has_missed_is_killed_by_the_next() -> None:
    """Of those that start another and end at once a look may see neither the one nor the other."""
    done = subprocess.run([sys.executable, "-c", MISSED], env=environment(), capture_output=True, check=False)
    assert (done.stdout, done.stderr) == (b"none\n", b"")


def test_one_that_may_tidy_up_does(output: Path) -> None:
    told = ran(
        "sh", "-c", 'trap "echo tidy; exit 3" TERM; while :; do sleep 0.05; done', output=output, timeout_s=READY_S
    )
    assert told.how == "timeout"
    assert output.read_text().endswith("tidy\n")  # the shell tells of its sleep too


def test_a_flood_is_bounded(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "OUTPUT_BYTES_MAX", 1 << 20)
    told = ran("sh", "-c", "head -c 5000000 /dev/zero; exit 4", output=output)
    assert told.status == 4
    assert 1 << 20 <= output.stat().st_size < (1 << 20) + 200


def test_cancelled_it_is_stopped_and_gone(output: Path, tmp_path: Path) -> None:
    pid_path = tmp_path / "pid"

    async def cancelled() -> None:
        async with trio.open_nursery() as nursery:
            words = [sys.executable, "-c", f"import os, time; {writes_pid(pid_path)}"]
            nursery.start_soon(run, words, os.environ, LONG_S, output)
            await trio.to_thread.run_sync(pid_in, pid_path)
            nursery.cancel_scope.cancel()

    trio.run(cancelled)
    assert not is_alive(pid_in(pid_path))


def test_when_who_asked_is_killed_the_test_ends(output: Path, tmp_path: Path) -> None:
    pid_path = tmp_path / "pid"
    child = os.fork()
    if child == 0:
        words = [sys.executable, "-c", f"import os, time; {writes_pid(pid_path)}"]
        try:
            trio.run(run, words, os.environ, LONG_S, output)
        finally:
            os._exit(0)
    pid = pid_in(pid_path)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    eventually(lambda: not is_alive(pid), "the test to end")


def test_a_test_whose_output_cannot_be_kept_is_not_begun(output: Path, tmp_path: Path) -> None:
    output.mkdir()
    mark = str(tmp_path / "mark")
    told = ran(sys.executable, "-c", "import time; time.sleep(60)", mark, output=output)
    assert (told.how, told.status) == ("failed", None)
    assert str(output) in told.error
    assert [path for path in Path("/proc").glob("[0-9]*/cmdline") if mark.encode() in _content(path)] == []


def _content(path: Path) -> bytes:
    """Nothing, of a process that has ended."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_a_warden_whose_asker_is_gone_says_nothing(output: Path) -> None:
    argv = [sys.executable, "-I", "-S", warden.__file__, str(output), str(LONG_S), str(SHORT_S), "1000", "sleep", "60"]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.close()
    process.stdin.close()
    process.stdin = process.stdout = None
    assert process.communicate(timeout=LONG_S)[1] == b""
    assert process.returncode == 0


ENDED: dict[int, Verdict] = {0: "good", 1: "bad", 124: "bad", 125: "skip"}


@pytest.mark.parametrize("status", ENDED)
def test_verdicts_are_those_of_git_bisect_run(status: int) -> None:
    told = Trial(how="ended", status=status, left=0, stuck=0, error="")
    assert judged(told, "abort", 1.0, "t") == Judgement(ENDED[status], status, "")


@pytest.mark.parametrize(
    ("told", "error", "said"),
    [
        (Trial(how="ended", status=126, left=0, stuck=0, error=""), HuntAbortedError, "ended with 126"),
        (Trial(how="ended", status=255, left=0, stuck=0, error=""), HuntAbortedError, "ended with 255"),
        (Trial(how="ended", status=-9, left=0, stuck=0, error=""), HuntAbortedError, "killed by SIGKILL"),
        (Trial(how="failed", status=None, left=0, stuck=0, error="x: No such file"), HuntAbortedError, "cannot run"),
        (Trial(how="ended", status=0, left=2, stuck=2, error=""), HuntAbortedError, "cannot be killed"),
        (Trial(how="timeout", status=None, left=0, stuck=0, error=""), TimedOutError, "still running after 1.5 min"),
    ],
)
def test_what_is_no_verdict_aborts(told: Trial, error: type[VsnapfsError], said: str) -> None:
    with pytest.raises(error, match=said):
        judged(told, "abort", 90.0, "t")


def test_a_timeout_is_what_was_asked_for() -> None:
    told = Trial(how="timeout", status=None, left=0, stuck=0, error="")
    assert judged(told, "bad", 1.0, "t") == Judgement("bad", None, "it was still running after 1 s")
    assert judged(told, "skip", 1.0, "t").verdict == "skip"


def test_what_was_left_is_told() -> None:
    told = Trial(how="ended", status=0, left=3, stuck=0, error="")
    assert judged(told, "abort", 1.0, "t").why == "3 processes that it had left were killed"

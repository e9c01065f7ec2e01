"""Whatever goes wrong is one line and a documented status."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vsnapfs.cli import status as status_module
from vsnapfs.cli.main import COMMANDS, run
from vsnapfs.core import errors as e

pytestmark = pytest.mark.unit

TOP = Path(__file__).parents[3]


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """``status`` raises this."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(status_module.command, "callback", fail)


@pytest.mark.parametrize(
    ("error", "exit_status", "line"),
    [
        (e.NotFoundError("no volume 'a'", near=["b"]), 3, "vsnapfs: no volume 'a'; did you mean b?"),
        (e.LockedError("in use", pid=7), 5, "vsnapfs: in use"),
        (e.IntegrityError("bad\nblock"), 6, "vsnapfs: bad block"),
        (OSError(errno.ENOSPC, "full"), 7, "vsnapfs: cannot write standard output: full"),
        (OSError(errno.EACCES, "no", "/x"), 4, "vsnapfs: cannot use /x: no"),
        (
            ZeroDivisionError("oops"),
            1,
            "vsnapfs: broke: ZeroDivisionError: oops; --debug shows where; please report it",
        ),
    ],
)
def test_one_line_and_the_status(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], error: Exception, exit_status: int, line: str
) -> None:
    failing(monkeypatch, error)
    assert run(["status"]) == exit_status
    assert capfd.readouterr() == ("", line + "\n")


def test_with_json_it_is_one_object(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    failing(monkeypatch, e.NotFoundError("no volume 'a'", near=["b"], volume="a"))
    assert run(["status", "--json"]) == 3
    out, err = capfd.readouterr()
    assert out == ""
    assert json.loads(err) == {
        "error": {
            "kind": "NotFoundError",
            "exit_status": 3,
            "message": "no volume 'a'",
            "fields": {"volume": "a", "near": ["b"]},
        }
    }


def test_debug_shows_where(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    failing(monkeypatch, ZeroDivisionError("oops"))
    assert run(["status", "--debug"]) == 1
    assert "Traceback" in capfd.readouterr().err


def test_an_interrupt_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, KeyboardInterrupt())
    assert run(["status"]) == 130


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("volum", "no command 'volum'; did you mean volume?"),
        ("zzz", "no command 'zzz'; vsnapfs --help lists all"),
        ("volume ad", "no command 'ad'; did you mean add?"),
        ("bookmark delete", "no command 'delete'; did you mean remove?"),
        ("status --jsn", "no option '--jsn'; did you mean --json?"),
        ("status extra", "got unexpected extra argument (extra); see vsnapfs status --help"),
        ("diff a", "missing argument 'B'; see vsnapfs diff --help"),
        ("export a db0", "missing option '--to'; see vsnapfs export --help"),
        ("volume add", "missing argument 'NAME'; see vsnapfs volume add --help"),
        ("completion tcsh", "invalid value for '{bash|zsh|fish}'"),
        ("status", "no repository was named; give -r REPO or set VSNAPFS_REPO"),
    ],
)
def test_wrong_usage_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], words: str, line: str
) -> None:
    monkeypatch.delenv("VSNAPFS_REPO", raising=False)
    assert run(words.split()) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(f"vsnapfs: {line}")
    assert err.count("\n") == 1


def test_wrong_usage_with_json(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["volum", "--json"]) == 2
    assert json.loads(capfd.readouterr().err)["error"]["kind"] == "UsageError"


def test_without_a_command_there_is_help(capfd: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    shown = capfd.readouterr().err
    assert all(command in shown for command in COMMANDS)


def test_help(capfd: pytest.CaptureFixture[str]) -> None:
    for words in (["--help"], ["-h"], ["volume", "-h"], ["bookmark", "add", "--help"]):
        assert run(words) == 0
        assert capfd.readouterr().out.startswith("Usage: vsnapfs")


def started(*args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(TOP)}
    command = [sys.executable, "-m", "vsnapfs.cli", *args]
    return subprocess.run(command, env=env, stderr=subprocess.PIPE, text=True, check=False, timeout=30, **options)


def test_a_reader_that_went_away_is_status_1_and_silence() -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = started("completion", "bash", stdout=write)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_full_disk_behind_standard_output_is_status_7() -> None:
    with Path("/dev/full").open("w") as full:
        done = started("completion", "bash", stdout=full)
    assert (done.returncode, done.stderr) == (
        7,
        "vsnapfs: cannot write standard output: No space left on device\n",
    )


def test_a_closed_standard_output_is_status_1() -> None:
    def close() -> None:
        os.close(1)

    done = started("completion", "bash", preexec_fn=close)
    assert (done.returncode, done.stderr) == (1, "vsnapfs: cannot write standard output: Bad file descriptor\n")


def test_help_is_quick() -> None:
    """Nothing heavy is loaded; time itself would be noise."""
    code = "import sys; from vsnapfs.cli.main import run; run(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(TOP)},
        capture_output=True,
        text=True,
        check=True,
    )
    heavy = {"trio", "rich", "apsw", "pyfuse3", "structlog", "hypercorn", "starlette", "_cffi_backend"}
    assert not heavy & set(done.stderr.split())

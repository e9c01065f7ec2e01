"""The benchmark runs, whatever it finds, and leaves nothing behind."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import environment

RUN_S_MAX = 250

pytestmark = [
    pytest.mark.e2e, pytest.mark.requires_root, pytest.mark.requires_fuse, pytest.mark.timeout(2 * RUN_S_MAX + 30)
]  # fmt: skip

SCRIPTS = Path(__file__).parents[2] / "scripts"
URING_SWITCH = Path("/sys/module/fuse/parameters/enable_uring")
TITLES = {
    "writes": "Writing, 8 volumes of 2.0 MiB in memory",
    "extents": "Reading a bookmark of 2.00k extents",
    "length": "Reading a bookmark, by length of the history",
    "kernel": "Kernel views",
    "sparse": "tar -S of a 10 GiB image",
    "opening": "Opening, by length of the history",
    "archive": "An archive of 64 MiB, read from memory",
    "recall": "A recall of 64 MiB from a pool in memory",
}


@pytest.fixture(autouse=True)
def switch_as_it_was() -> Iterator[None]:
    """The benchmark sets it, one for the whole machine: another run of the tests waits, as in the fixture ``transport``."""
    if not URING_SWITCH.exists():
        yield
        return
    with URING_SWITCH.open("r+") as switch:
        fcntl.flock(switch, fcntl.LOCK_EX)
        before = URING_SWITCH.read_text()
        yield
        assert URING_SWITCH.read_text() == before


def bench(*words: str | Path) -> subprocess.CompletedProcess[str]:
    env = environment()
    env["PYTHONPATH"] = os.pathsep.join([str(SCRIPTS), env["PYTHONPATH"]])
    command = [sys.executable, "-m", "benchmarks", *map(str, words)]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=RUN_S_MAX, check=False)


@pytest.mark.parametrize("group", TITLES)
def test_a_quick_run_prints_its_table_and_leaves_nothing(group: str, tmp_path: Path, memory_path: Path) -> None:
    done = bench("--quick", "--disk", tmp_path, "--memory", memory_path, group)
    assert done.returncode == 0, done.stdout + done.stderr
    assert TITLES[group] in done.stdout
    assert list(tmp_path.iterdir()) == list(memory_path.iterdir()) == []


def test_a_second_postgresql(memory_path: Path) -> None:
    """On a disk that its user can reach, unlike pytest's; where it cannot, that is said."""
    with tempfile.TemporaryDirectory(prefix="vsnapfs-bench-", dir="/var/tmp") as disk:
        for mode, said in ((0o755, "A second PostgreSQL"), (0o700, "not measured: branches: postgres cannot reach")):
            Path(disk).chmod(mode)
            done = bench("--quick", "--disk", disk, "--memory", memory_path, "branches")
            assert done.returncode == 0, done.stdout + done.stderr
            assert said in done.stdout
            assert list(Path(disk).iterdir()) == []


def test_without_libfuse_s_example_it_says_what_it_did_not_measure(tmp_path: Path, memory_path: Path) -> None:
    done = bench("--quick", "--disk", tmp_path, "--memory", memory_path, "extents")
    assert "not measured: all beside passthrough_hp: needs --passthrough-hp\n" in done.stdout


def test_a_program_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    done = bench("--passthrough-hp", tmp_path / "nothing", "extents")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == f"scripts/bench: error: {tmp_path / 'nothing'} is not a program"

"""Crashes of a journal on a simulated store: at its calls, in its recoveries, nested, and faults. See harness_crash_states.c.

VSNAPFS_CRASH_STATES and VSNAPFS_CRASH_SEED make another run of it; a failure prints how to repeat it alone.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
STATES = int(os.environ.get("VSNAPFS_CRASH_STATES", "25000"))
SEED = int(os.environ.get("VSNAPFS_CRASH_SEED", "1"))
STATES_SANITIZED = 2000
BUILD_S = 900
RUN_S = 1200

KEPT_SEEDS = {
    2: "a seal that failed and a close after it: a segment without an index was asked where it ends",
    12: "a segment whose name was not durable was gone on with by the next process, and lost in a power loss",
    4008: "a resize's sync took the error of writes that the journal had applied, and was the only one told",
}
"""Seeds that found a defect of the journal, and which."""


def build(out: Path, sanitize: str) -> Path:
    """crash_states, with store_sim beside it."""
    targets = [f"{out}/crash_states", f"{out}/store_sim"]
    command = ["make", "-j2", f"OUT={out}", "CC=gcc", f"SANITIZE={sanitize}", *targets]
    done = subprocess.run(command, check=False, cwd=HERE, capture_output=True, text=True, timeout=BUILD_S)
    assert done.returncode == 0, done.stderr
    return out / "crash_states"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("crash-states"), "none")


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("crash-states-sanitized"), "address,undefined")


def crash(program: Path, *options: str) -> dict[str, Any]:
    """The program's last line; fails with what it says of failures."""
    environment = os.environ | {"ASAN_OPTIONS": "detect_leaks=1", "UBSAN_OPTIONS": "print_stacktrace=1"}
    done = subprocess.run(
        [str(program), *options], check=False, env=environment, capture_output=True, text=True, timeout=RUN_S
    )
    assert done.returncode == 0, f"{' '.join(options)}: status {done.returncode}\n{done.stdout}{done.stderr}"
    line: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert line["failures"] == 0
    return line


@pytest.mark.timeout(BUILD_S + RUN_S)
def test_the_simulated_store_does_what_a_disk_does(sanitized: Path) -> None:
    """And the scenes of what it found in the journal."""
    crash(sanitized.with_name("store_sim"))


@pytest.mark.timeout(BUILD_S + RUN_S)
def test_nothing_that_was_answered_is_lost(plain: Path) -> None:
    line = crash(plain, "--seed", str(SEED), "--states", str(STATES))
    assert line["states"] >= STATES
    assert all(line["crashes"]), "each depth of crashes in recoveries"
    assert line["faults"]
    assert line["kills"]


@pytest.mark.timeout(BUILD_S + RUN_S)
@pytest.mark.parametrize("seed", KEPT_SEEDS, ids=str)
def test_a_seed_that_found_a_defect(seed: int, plain: Path) -> None:
    crash(plain, "--seed", str(seed), "--seeds", "1")


@pytest.mark.timeout(BUILD_S + RUN_S)
def test_a_seed_does_the_same_each_time(plain: Path) -> None:
    options = ("--seed", str(SEED + 1), "--seeds", "2")
    assert crash(plain, *options) == crash(plain, *options)


@pytest.mark.timeout(BUILD_S + RUN_S)
def test_no_memory_error_on_the_way(sanitized: Path) -> None:
    crash(sanitized, "--seed", str(SEED + 100), "--states", str(STATES_SANITIZED))

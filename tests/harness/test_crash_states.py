"""Crashes of a journal on a simulated store: at its calls, in its recoveries, nested, and faults. See harness_crash_states.c.

VSNAPFS_CRASH_STATES and VSNAPFS_CRASH_SEED make another run of it; a failure prints how to repeat it alone.
"""

from __future__ import annotations

import os

import pytest

from tests.harness.building import BUILD_S, RUN_S, SANITIZED, result

STATES = int(os.environ.get("VSNAPFS_CRASH_STATES", "25000"))
SEED = int(os.environ.get("VSNAPFS_CRASH_SEED", "1"))
STATES_SANITIZED = 2000

KEPT_SEEDS = {
    2: "a seal that failed and a close after it: a segment without an index was asked where it ends",
    12: "a segment whose name was not durable was gone on with by the next process, and lost in a power loss",
    4008: "a resize's sync took the error of writes that the journal had applied, and was the only one told",
}
"""Seeds that found a defect of the journal, and which."""


@pytest.mark.timeout(BUILD_S + RUN_S)
def test_the_simulated_store_does_what_a_disk_does() -> None:
    """And the scenes of what it found in the journal."""
    result("store_sim", sanitize=SANITIZED)


@pytest.mark.timeout(BUILD_S + RUN_S)
def test_nothing_that_was_answered_is_lost() -> None:
    line = result("crash_states", "--seed", str(SEED), "--states", str(STATES))
    assert line["states"] >= STATES
    assert all(line["crashes"]), "each depth of crashes in recoveries"
    assert line["faults"]
    assert line["kills"]
    assert line["compactions"]


@pytest.mark.timeout(BUILD_S + RUN_S)
@pytest.mark.parametrize("seed", KEPT_SEEDS, ids=str)
def test_a_seed_that_found_a_defect(seed: int) -> None:
    result("crash_states", "--seed", str(seed), "--seeds", "1")


@pytest.mark.timeout(BUILD_S + RUN_S)
def test_a_seed_does_the_same_each_time() -> None:
    options = ("--seed", str(SEED + 1), "--seeds", "2")
    assert result("crash_states", *options) == result("crash_states", *options)


@pytest.mark.timeout(BUILD_S + RUN_S)
def test_no_memory_error_on_the_way() -> None:
    result("crash_states", "--seed", str(SEED + 100), "--states", str(STATES_SANITIZED), sanitize=SANITIZED)

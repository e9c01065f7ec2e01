"""Crashes and faults at every call that a branch makes. See harness_branch_states.c.

VSNAPFS_BRANCH_STATES and VSNAPFS_BRANCH_SEED make another run of it.
"""

from __future__ import annotations

import os

import pytest

from tests.harness.building import BUILD_S, RUN_S, SANITIZED, result

STATES = int(os.environ.get("VSNAPFS_BRANCH_STATES", "20000"))
SEED = int(os.environ.get("VSNAPFS_BRANCH_SEED", "1"))
STATES_SANITIZED = 1000

KEPT_SEEDS = {
    2: "the last note of a log was lost by a sync that failed, and the page cache still had it for the next who opened",
    4: "a log written anew was gone on with after its writer's death, and its name had never been synced",
}
"""Seeds that found a defect, and which."""


@pytest.mark.timeout(BUILD_S + RUN_S)
def test_a_crash_leaves_a_state_at_or_after_the_last_sync() -> None:
    line = result("branch_states", "--seed", str(SEED), "--states", str(STATES))
    assert line["states"] >= STATES
    for what in ("nested", "kills", "faults", "rewrites", "freezes", "punches"):
        assert line[what], what


@pytest.mark.timeout(BUILD_S + RUN_S)
@pytest.mark.parametrize("seed", KEPT_SEEDS, ids=str)
def test_a_seed_that_found_a_defect(seed: int) -> None:
    result("branch_states", "--seed", str(seed), "--seeds", "1")


@pytest.mark.timeout(BUILD_S + RUN_S)
def test_no_memory_error_on_the_way() -> None:
    result("branch_states", "--seed", str(SEED + 100), "--states", str(STATES_SANITIZED), sanitize=SANITIZED)

"""Crashes and faults while the floor is set and bases are moved to it, and while that is done again. See harness_base_moves.c.

VSNAPFS_BASE_MOVE_STATES and VSNAPFS_BASE_MOVE_SEED make another run of it.
"""

from __future__ import annotations

import os

import pytest

from tests.harness.building import BUILD_S, RUN_S, SANITIZED, result

STATES = int(os.environ.get("VSNAPFS_BASE_MOVE_STATES", "4000"))
SEED = int(os.environ.get("VSNAPFS_BASE_MOVE_SEED", "1"))
STATES_SANITIZED = 500

KEPT_SEEDS = {
    927: "an image whose last block is in use grew, and a crash left garbage behind its old end",
}
"""Seeds that found a defect, and which."""


@pytest.mark.timeout(BUILD_S + RUN_S)
def test_no_point_from_the_floor_on_is_lost_and_a_move_is_done_again() -> None:
    line = result("base_moves", "--seed", str(SEED), "--states", str(STATES))
    assert line["states"] >= STATES
    assert line["faults"]
    assert line["nested"]


@pytest.mark.timeout(BUILD_S + RUN_S)
@pytest.mark.parametrize("seed", KEPT_SEEDS, ids=str)
def test_a_seed_that_found_a_defect(seed: int) -> None:
    result("base_moves", "--seed", str(seed), "--seeds", "1")


@pytest.mark.timeout(BUILD_S + RUN_S)
def test_no_memory_error_on_the_way() -> None:
    result("base_moves", "--seed", str(SEED + 100), "--states", str(STATES_SANITIZED), sanitize=SANITIZED)

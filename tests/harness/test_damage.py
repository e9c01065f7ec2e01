"""A repository damaged in every way, one at a time: nothing wrong is returned, all is found, and only what needs it is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.building import SANITIZED, result

pytestmark = pytest.mark.timeout(1200)

STATES = 20_000
SANITIZED_STATES = 1_500


@pytest.mark.parametrize("seed", [1, 2], ids=["after a stop of the machine", "after a clean end"])
def test_sampled_damage(seed: int, memory_path: Path) -> None:
    options = ("--seed", str(seed), "--states", str(STATES // 2), "--directory", str(memory_path))
    found = result("damage", *options)
    assert found["states"] >= STATES // 2
    assert found["found"] + found["undetectable"] == found["states"]
    assert min(found["refused"], found["lost_reads"], found["owners"], found["torn"]) > 100
    assert list(memory_path.iterdir()) == [], "it leaves nothing"


def test_parsers_of_damaged_bytes_make_no_memory_error() -> None:
    found = result("damage", "--seed", "3", "--states", str(SANITIZED_STATES), sanitize=SANITIZED)
    assert found["states"] >= SANITIZED_STATES

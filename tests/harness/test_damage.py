"""A repository damaged in every way, one at a time: nothing wrong is returned, all is found, and only what needs it is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.building import build, result

pytestmark = pytest.mark.timeout(1200)

STATES = 20_000
SANITIZED_STATES = 1_500


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damage")


@pytest.mark.parametrize("seed", [1, 2], ids=["after a stop of the machine", "after a clean end"])
def test_sampled_damage(out: Path, seed: int) -> None:
    found = result(build(out, "damage", "none"), "--seed", str(seed), "--states", str(STATES // 2))
    assert found["states"] >= STATES // 2
    assert found["found"] + found["undetectable"] == found["states"]
    assert min(found["refused"], found["lost_reads"], found["owners"], found["torn"]) > 100


def test_parsers_of_damaged_bytes_make_no_memory_error(tmp_path: Path) -> None:
    found = result(build(tmp_path, "damage"), "--seed", "3", "--states", str(SANITIZED_STATES))
    assert found["states"] >= SANITIZED_STATES

"""Every call that the core makes of the C library fails, in each of many scenarios: no crash, nothing left open, nothing lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.building import SANITIZED, result

pytestmark = pytest.mark.timeout(1200)

SCENARIOS = 40
POINTS = 3_000


def test_every_call_fails_once() -> None:
    """Under the address sanitizer; memory and files that are not given back are counted."""
    found = result("fault_points", "--seed", "1", "--rounds", "1", "--mode", "once", sanitize=SANITIZED)
    assert found["scenarios"] >= SCENARIOS
    assert found["states"] >= POINTS


def test_every_call_fails_from_then_on(memory_path: Path) -> None:
    options = ("--seed", "1", "--rounds", "1", "--mode", "on", "--directory", str(memory_path))
    found = result("fault_points", *options)
    assert list(memory_path.iterdir()) == [], "it leaves nothing"
    assert found["scenarios"] >= SCENARIOS
    assert found["states"] >= POINTS

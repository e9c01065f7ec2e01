"""Every call that the core makes of the C library fails, in each of many scenarios: no crash, nothing left open, nothing lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.building import build, result

pytestmark = pytest.mark.timeout(1200)

SCENARIOS = 40
POINTS = 3_000


def test_every_call_fails_once(tmp_path: Path) -> None:
    """Under the address sanitizer; memory and files that are not given back are counted."""
    found = result(build(tmp_path, "fault_points"), "--seed", "1", "--rounds", "1", "--mode", "once")
    assert found["scenarios"] >= SCENARIOS
    assert found["states"] >= POINTS


def test_every_call_fails_from_then_on(tmp_path: Path) -> None:
    found = result(build(tmp_path, "fault_points", "none"), "--seed", "1", "--rounds", "1", "--mode", "on")
    assert found["scenarios"] >= SCENARIOS
    assert found["states"] >= POINTS

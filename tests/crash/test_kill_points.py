"""kill -9 at every call that changes something loses nothing that was acknowledged, and with a keep nothing at all.

Source: tests/harness/harness_kill_points.c, which goes on for any count.
"""

from __future__ import annotations

import pytest

from tests.harness.building import result

STATES = 400
POINTS_MIN = 30

pytestmark = [pytest.mark.crash, pytest.mark.timeout(400)]


def test_what_was_acknowledged_survives_kill_9_at_named_points() -> None:
    told = result("kill_points", "--count", str(STATES), "--seed", "1")
    assert told["states"] == STATES
    assert told["recovery_kills"] > 0
    assert told["points"] >= POINTS_MIN

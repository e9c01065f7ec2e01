"""What was acknowledged is there after a loss of power at any moment, on real filesystems.

200 states of each, sampled. Source: tests/harness/harness_logged_writes.c; ``python -m tests.crash.logged_writes`` goes on.
"""

from __future__ import annotations

import pytest

from tests.harness.building import result

STATES = 200
SANITIZE = "address,undefined"

pytestmark = [pytest.mark.crash, pytest.mark.requires_root, pytest.mark.requires_fuse, pytest.mark.timeout(400)]


@pytest.mark.parametrize("filesystem", ["ext4", "xfs", "btrfs"])
def test_what_was_acknowledged_survives_a_loss_of_power(filesystem: str) -> None:
    arguments = ["--filesystem", filesystem, "--count", str(STATES), "--seed", "1"]
    told = result("logged_writes", *arguments, sanitize=SANITIZE)
    assert told["states"] == STATES
    assert told["nested"] > 0
    assert told["torn"] > 0

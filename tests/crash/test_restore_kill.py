"""Restores that are killed go on. VSNAPFS_RESTORE_KILLS and VSNAPFS_RESTORE_SHUTDOWNS say how many;
``python -m tests.crash.restore_kill`` and ``…restore_shutdown`` make any number."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.crash import restore_kill, restore_shutdown
from tests.crash.shutdown import FILESYSTEMS

KILLS = int(os.environ.get("VSNAPFS_RESTORE_KILLS", "10"))
SHUTDOWNS = int(os.environ.get("VSNAPFS_RESTORE_SHUTDOWNS", "3"))

pytestmark = [pytest.mark.crash, pytest.mark.timeout(300 + 20 * max(KILLS, SHUTDOWNS))]


def test_killed_restores_go_on(tmp_path: Path) -> None:
    print("seed 1")
    assert restore_kill.play(1, KILLS, tmp_path).total() == KILLS


@pytest.mark.requires_root
@pytest.mark.parametrize("kind", sorted(FILESYSTEMS))
def test_restores_go_on_after_a_loss_of_power(tmp_path: Path, kind: str) -> None:
    print("seed 1")
    assert restore_shutdown.play(1, SHUTDOWNS, tmp_path, kind).total() == SHUTDOWNS

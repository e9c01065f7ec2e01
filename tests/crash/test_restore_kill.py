"""Restores that are killed go on. VSNAPFS_RESTORE_KILLS says how many; ``python -m tests.crash.restore_kill`` makes any number."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.crash.restore_kill import play

KILLS = int(os.environ.get("VSNAPFS_RESTORE_KILLS", "10"))

pytestmark = [pytest.mark.crash, pytest.mark.timeout(60 + 20 * KILLS)]


def test_killed_restores_go_on(tmp_path: Path) -> None:
    print("seed 1")
    assert play(1, KILLS, tmp_path).total() == KILLS

"""Kills in prunes lose nothing. VSNAPFS_PRUNE_KILLS says how many; ``python -m tests.crash.prune_kill`` makes any number."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.crash.prune_kill import play

KILLS = int(os.environ.get("VSNAPFS_PRUNE_KILLS", "8"))

pytestmark = [pytest.mark.crash, pytest.mark.timeout(300 + 20 * KILLS)]


def test_kills_in_prunes_lose_nothing(tmp_path: Path) -> None:
    kinds = play(1, KILLS, tmp_path)
    assert kinds.total() == KILLS
    assert kinds["in a prune"] > 0

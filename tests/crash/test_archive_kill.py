"""Archives that are killed go on. VSNAPFS_ARCHIVE_KILLS says how many; ``python -m tests.crash.archive_kill`` makes any number."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.crash.archive_kill import play

KILLS = int(os.environ.get("VSNAPFS_ARCHIVE_KILLS", "6"))

pytestmark = [pytest.mark.crash, pytest.mark.timeout(300 + 30 * KILLS)]


def test_killed_archives_go_on(tmp_path: Path) -> None:
    print("seed 1")
    assert play(1, KILLS, tmp_path).total() == KILLS

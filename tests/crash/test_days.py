"""Days of a repository by a clock that is moved on. Source: days.py; ninety of them: VSNAPFS_DAYS=90, or by hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.crash.days import play

DAYS = int(os.environ.get("VSNAPFS_DAYS", "8"))

pytestmark = [pytest.mark.crash, pytest.mark.requires_root, pytest.mark.requires_fuse]


def test_window_size_files_and_memory_stay_where_the_settings_say(tmp_path: Path) -> None:
    assert play(1, DAYS, tmp_path).total() == DAYS

"""A defect anywhere among a thousand bookmarks. VSNAPFS_HUNTS says how many hunts; ``python -m tests.crash.hunts`` makes any number."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.crash.hunts import play

HUNTS = int(os.environ.get("VSNAPFS_HUNTS", "3"))
SEED = int(os.environ.get("VSNAPFS_HUNT_SEED", "1"))

pytestmark = [
    pytest.mark.crash,
    pytest.mark.requires_root,
    pytest.mark.requires_fuse,
    pytest.mark.timeout(300 + 20 * HUNTS),
]


def test_a_defect_anywhere_among_a_thousand_bookmarks(tmp_path: Path) -> None:
    print(f"seed {SEED}")
    assert play(SEED, HUNTS, tmp_path).total() == HUNTS

"""Nobody is told what is not so while others do what they like. VSNAPFS_SIDE_BY_SIDE says how many steps."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.crash.side_by_side import play

STEPS = int(os.environ.get("VSNAPFS_SIDE_BY_SIDE", "200"))
SEED = int(os.environ.get("VSNAPFS_SIDE_BY_SIDE_SEED", "1"))

pytestmark = [pytest.mark.crash, pytest.mark.requires_root, pytest.mark.requires_fuse, pytest.mark.timeout(600)]


def test_nobody_is_told_what_is_not_so(tmp_path: Path) -> None:
    print(f"seed {SEED}")
    assert play(SEED, STEPS, tmp_path).total() >= STEPS

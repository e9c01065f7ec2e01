"""A machine that loses its power loses nothing that was acknowledged. Source: power_cut.py."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.crash.power_cut import CUTS_PER_ROUND, KERNEL, play

pytestmark = [pytest.mark.crash, pytest.mark.requires_root]


def test_what_was_acknowledged_survives_a_power_cut(tmp_path: Path) -> None:
    if shutil.which(KERNEL) is None:
        assert os.environ.get("CI") != "true", f"CI must not leave it out: {KERNEL} is not installed"
        pytest.skip(f"needs {KERNEL}")
    assert play(1, CUTS_PER_ROUND, tmp_path).total() == CUTS_PER_ROUND

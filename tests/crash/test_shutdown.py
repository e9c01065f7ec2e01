"""A filesystem that is shut down under the real server loses nothing that was acknowledged. Source: shutdown.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.shutdown import CRASHES_PER_ROUND, FILESYSTEMS, play

ROUNDS = 2

pytestmark = [pytest.mark.crash, pytest.mark.requires_root, pytest.mark.requires_fuse]


@pytest.mark.parametrize("kind", FILESYSTEMS)
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_what_was_acknowledged_survives_a_shutdown(kind: str, seed: int, tmp_path: Path) -> None:
    assert play(seed, CRASHES_PER_ROUND, tmp_path, kind).total() == CRASHES_PER_ROUND

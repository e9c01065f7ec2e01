"""kill -9 of the real server under load: what was acknowledged is there, and nothing but starting it again is needed.

A round is one repository whose server is killed again and again while two processes write to it, at moments that a seed
chooses: under load, while bookmarks are made, while a segment is sealed, while it ends, and once more in the recovery.
After each kill the server is started over its dead mount, and everything is compared.

kill -9 loses no page cache: this is the death of a process. The loss of power is tested on logged writes, on shut down
filesystems and in simulated stores. ``python -m tests.crash.kill`` makes any number of kills.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.kill import KILLS_PER_ROUND, play

ROUNDS = 10

pytestmark = [pytest.mark.crash, pytest.mark.requires_root, pytest.mark.requires_fuse]


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_what_was_acknowledged_survives_kill_9(seed: int, tmp_path: Path) -> None:
    assert play(seed, KILLS_PER_ROUND, tmp_path).total() >= KILLS_PER_ROUND

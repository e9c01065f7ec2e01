"""kill -9 of the real server under load: what was acknowledged is there, and nothing but starting it again is needed.

A round is one repository whose server is killed again and again while two processes write to it, at moments that a seed
chooses: under load, while bookmarks are made, while a segment is sealed, while it ends, and once more in the recovery.
After each kill the server is started over its dead mount, and everything is compared.

VSNAPFS_KILLS says how many kills there are in all. kill -9 loses no page cache: this is the death of a process; the
loss of power is tested below the core.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.crash.round import Round

KILLS = int(os.environ.get("VSNAPFS_KILLS", "100"))
KILLS_PER_ROUND = 10
KINDS = ("load", "bookmark", "seal", "recovery", "ending")

pytestmark = [pytest.mark.crash, pytest.mark.requires_root, pytest.mark.requires_fuse]


@pytest.mark.parametrize("number", range(-(-KILLS // KILLS_PER_ROUND)))
def test_what_was_acknowledged_survives_kill_9(number: int, tmp_path: Path) -> None:
    with Round(tmp_path, seed=number) as played:
        while played.kills.total() < min(KILLS_PER_ROUND, KILLS - number * KILLS_PER_ROUND):
            played.life(KINDS[played.lives % len(KINDS)])
        played.end()
        print(played)
    assert played.acknowledged > 0
    assert played.bookmarks

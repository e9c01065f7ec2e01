"""Bookmarks over two served repositories: one cut, and all or none whatever is killed. See federated.py, which makes any
number of them; what a kill of the command leaves at each single step is in tests/unit/daemon/test_federated.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.federated import play_cuts, play_full, play_kills

CUTS = 10
FULL = 4
KILLS = {2: 4, 3: 10}
"""By seed: without a keeper, where each kill of a server costs its start, and with one."""

pytestmark = [pytest.mark.crash, pytest.mark.requires_root, pytest.mark.requires_fuse]


@pytest.mark.parametrize("seed", [0, 1])
def test_each_is_one_cut(seed: int, tmp_path: Path) -> None:
    assert play_cuts(seed, CUTS, tmp_path).total() == CUTS


@pytest.mark.parametrize("seed", KILLS)
def test_all_carry_it_or_none(seed: int, tmp_path: Path) -> None:
    assert play_kills(seed, KILLS[seed], tmp_path).total() == KILLS[seed]


def test_a_full_disk_at_any_step_comes_to_all_or_none(tmp_path: Path) -> None:
    assert play_full(4, FULL, tmp_path).total() == FULL

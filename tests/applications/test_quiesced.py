"""Bookmarks with a profile of PostgreSQL, MariaDB and an ext4, each opened on a copy."""

from __future__ import annotations

import pytest

from tests.applications.quiesced import play

BOOKMARKS = 3

pytestmark = [pytest.mark.e2e, pytest.mark.requires_root, pytest.mark.requires_fuse, pytest.mark.timeout(900)]


def test_each_starts_with_no_more_recovery_than_is_promised_and_all_are_at_the_same_step() -> None:
    told = play(BOOKMARKS, seed=5)
    print(told)
    assert (told.bookmarks, told.failed) == (BOOKMARKS, 0)
    assert told.steps > 0

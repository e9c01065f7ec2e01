"""Databases on a live volume that are killed, and lose their storage: nothing acknowledged is missing, in any bookmark either."""

from __future__ import annotations

import pytest

from tests.applications.play import play

BOOKMARKS, KILLS = 10, 12

pytestmark = [pytest.mark.e2e, pytest.mark.requires_root, pytest.mark.requires_fuse, pytest.mark.timeout(900)]


@pytest.mark.parametrize(("application", "seed"), [("postgresql", 1), ("mariadb", 2), ("sqlite", 4)])
def test_every_bookmark_is_recovered_and_lacks_nothing_acknowledged(application: str, seed: int) -> None:
    told = play(application, bookmarks=BOOKMARKS, kills=KILLS, seed=seed)
    print(told)
    assert told.failed == 0
    assert (told.bookmarks, told.kills.total()) == (BOOKMARKS, KILLS)

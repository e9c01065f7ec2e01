"""A real server whose wall clock somebody sets wrong: nothing is pruned by that, and status tells of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.crash.server import Server
from tests.support.clock import Clock
from tests.support.processes import must
from vsnapfs.daemon.client import connect
from vsnapfs.daemon.requests import BookmarkAdd, BookmarkList, GetStatus, Prune

pytestmark = [pytest.mark.crash, pytest.mark.requires_root, pytest.mark.requires_fuse]

YEAR_S = 365 * 86400.0
HOUR_S = 3600.0
HOURS = 12
BLOCK_BYTES = 4096
SETTINGS = """
[journal]
segment_size = "64K"

[retention]
protection_window = "8h"
keep_last = 1
prune = "off"
"""
"""Of bookmarks that are made every hour the last 8 or 9 stay."""


def write(mountpoint: Path) -> None:
    fd = os.open(mountpoint / "live" / "db0", os.O_RDWR)
    try:
        for block in range(32):
            os.pwrite(fd, os.urandom(BLOCK_BYTES), block * BLOCK_BYTES)
        os.fsync(fd)
    finally:
        os.close(fd)


@pytest.mark.parametrize("jump_s", [YEAR_S, -YEAR_S], ids=["forward", "back"])
def test_a_clock_that_is_set_wrong_and_right_again(tmp_path: Path, jump_s: float) -> None:
    repository, mountpoint = tmp_path / "repository", tmp_path / "mount"
    with Clock(tmp_path) as clock, Server(repository, mountpoint, clock.environment()) as server:
        must(repository, "init")
        must(repository, "volume", "add", "db0", "--size", "1M")
        (repository / "vsnapfs.toml").write_text(SETTINGS)
        server.start()
        client = connect(repository)

        def hour(name: str) -> None:
            write(mountpoint)
            client.call(BookmarkAdd(name=name))
            clock.advance(HOUR_S)

        def pruned() -> list[str]:
            """What goes."""
            before = {bookmark.name for bookmark in client.call(BookmarkList()).bookmarks}
            result = client.call(Prune())
            assert result.problems == []
            return sorted(before - {bookmark.name for bookmark in client.call(BookmarkList()).bookmarks})

        for number in range(HOURS):
            hour(f"b{number:02}")
        gone = pruned()
        assert gone[:3] == ["b00", "b01", "b02"]
        assert len(gone) <= 4
        clock.jump(jump_s)
        hour("wrong")
        assert len(pruned()) <= 2, "two hours have passed since the record that was the newest"
        words = "the clock was set forward by 365 d" if jump_s > 0 else "after the clock: until then"
        assert [words in warning for warning in client.call(GetStatus()).warnings] == [True]
        clock.jump(-jump_s)
        hour("right")
        assert len(pruned()) <= 2
        names = [bookmark.name for bookmark in client.call(BookmarkList()).bookmarks]
        assert names[-2:] == ["wrong", "right"]
        assert len(names) >= 7
        for _ in range(2 * HOURS):
            clock.advance(HOUR_S)
            write(mountpoint)
        assert "b11" in pruned(), "what is old goes"
        server.stop()

"""dd of a point that is pruned under it ends with the right sum; the point goes when dd has ended."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from tests.mount.conftest import MIB
from tests.support.files import opened, pread_all
from tests.support.keeper import Workers
from tests.support.processes import Mounted, child, make_repository, must_json, run
from tests.support.waiting import eventually

pytestmark = [pytest.mark.mount, pytest.mark.requires_root, pytest.mark.requires_fuse]

SIZE_BYTES = 8 * MIB
SETTINGS = """
[journal]
segment_size = "256K"
[retention]
protection_window = "1ms"
keep_last = 1
prune = "off"
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Mounted]:
    """A volume with four bookmarks, each of them written over once and more."""
    repository = make_repository(tmp_path / "repository", db=SIZE_BYTES)
    (repository / "vsnapfs.toml").write_text(SETTINGS)
    with Mounted(repository, tmp_path / "mount") as server:
        rng = random.Random(21)
        for name in ("a", "b", "c", "d"):
            write(server, rng, SIZE_BYTES // MIB)
            must_json(repository, "bookmark", "add", name)
        write(server, rng, 1)
        yield server


def write(server: Mounted, rng: random.Random, mibs: int) -> None:
    with (server.mountpoint / "live/db").open("r+b", buffering=0) as live:
        for at in range(mibs):
            live.seek(at * MIB)
            live.write(rng.randbytes(MIB))


def test_dd_of_a_point_that_goes(server: Mounted) -> None:
    """Of a bookmark that is removed meanwhile, and of a point that never had a name."""
    point = must_json(server.repository, "bookmark", "show", "b")["bookmark"]["seqno"] - 1
    places = [server.mountpoint / "snaps/b/db", server.mountpoint / f"at/@{point}/db"]
    sums = [hashlib.sha256(place.read_bytes()).hexdigest() for place in places]
    commands = [["dd", f"if={place}", "bs=64k", "iflag=direct", "status=none"] for place in places]
    with child(commands[0], stdout=subprocess.PIPE) as one, child(commands[1], stdout=subprocess.PIPE) as two:
        reading = [one, two]
        read = [hashlib.sha256(pipe_of(each).read(MIB)) for each in reading]
        must_json(server.repository, "bookmark", "remove", "b")
        first = must_json(server.repository, "prune")
        assert {fate["bookmark"] for fate in first["bookmarks"] if not fate["stays"]} == {"a", "c"}
        assert first["freed_bytes"] > 0
        assert first["after"]["oldest"]["seqno"] == point
        for each, digest in zip(reading, read, strict=True):
            while piece := pipe_of(each).read(MIB):
                digest.update(piece)
            assert each.wait(30) == 0
            pipe_of(each).close()
    assert [digest.hexdigest() for digest in read] == sums
    eventually(lambda: is_gone(server, point), "the points go when nobody reads them")
    assert must_json(server.repository, "check", "--read-data")["damages"] == []


def test_a_point_that_went_is_read_on_when_the_worker_was_killed(server: Mounted) -> None:
    """Its leases end with it; the next one opens what was open, and has leases, before anything can be pruned."""
    point = must_json(server.repository, "bookmark", "show", "b")["bookmark"]["seqno"]
    place = server.mountpoint / f"at/@{point}/db"
    with opened(place) as fd:
        expected = hashlib.sha256(pread_all(fd, SIZE_BYTES)).digest()
        must_json(server.repository, "bookmark", "remove", "b")
        for prune_first in (True, False):
            if prune_first:
                assert must_json(server.repository, "prune")["after"]["oldest"]["seqno"] == point
            Workers(server.repository, seed=0).kill(after_s_max=0)
            assert must_json(server.repository, "prune")["after"]["oldest"]["seqno"] == point
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            assert hashlib.sha256(pread_all(fd, SIZE_BYTES)).digest() == expected
    eventually(lambda: is_gone(server, point), "the point goes when nobody reads it")


def pipe_of(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdout is not None
    return process.stdout


def is_gone(server: Mounted, seqno: int) -> bool:
    """A program that has closed a file has not closed it yet for the server: that is asked again."""
    write(server, random.Random(22), 1)
    must_json(server.repository, "prune")
    return run(server.repository, "export", f"@{seqno}", "db", "--to", "-").returncode == 3


def test_a_bookmark_that_is_open_stays(server: Mounted) -> None:
    with (server.mountpoint / "snaps/b/db").open("rb") as held:
        expected = hashlib.sha256(held.read()).digest()
        fates = {fate["bookmark"]: fate for fate in must_json(server.repository, "prune")["bookmarks"]}
        assert (fates["b"]["stays"], fates["b"]["reasons"]) == (True, ["open"])
        held.seek(0)
        assert hashlib.sha256(held.read()).digest() == expected

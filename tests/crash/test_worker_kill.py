"""kill -9 of the worker, again and again, is invisible: no error, each request answered and applied once, soon.

VSNAPFS_WORKER_KILLS says how many kills each test makes. ``python -m tests.crash.worker_kill`` makes any number.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.crash.worker_kill import ACKS, VOLUME_BYTES, kill_under_load, make_served
from tests.support.devices import sh
from tests.support.files import opened, pread_all
from tests.support.keeper import Killing, Workers, kills
from tests.support.processes import Mounted, must, must_json

KILLS = kills(6)

pytestmark = [
    pytest.mark.crash, pytest.mark.requires_root, pytest.mark.requires_fuse, pytest.mark.timeout(300 + 10 * KILLS)
]  # fmt: skip

MIB = 1 << 20


@pytest.fixture(params=ACKS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mounted]:
    """A server of two volumes, with each way to acknowledge an fsync; segments are sealed often."""
    with make_served(tmp_path, request.param) as server:
        yield server


@pytest.mark.parametrize("also_next", [0, 2], ids=["", "taking-over"])
def test_every_write_is_in_the_history_once_and_in_order(server: Mounted, tmp_path: Path, also_next: int) -> None:
    """also_next: so many workers in a row are killed while they take over."""
    kill_under_load(server, tmp_path, 1, KILLS, also_next)


FIO_JOBS = (
    ("buffered", "db", 0, ("--bs=4k", "--ioengine=psync")),
    ("large", "db", 1, ("--bsrange=4k-128k", "--bs_unaligned=0", "--ioengine=psync", "--fsync=16")),
    ("direct", "logs", 0, ("--bs=4k", "--ioengine=libaio", "--direct=1", "--iodepth=8")),
    ("durable", "logs", 1, ("--bs=4k", "--ioengine=psync", "--fsync=1")),
)
"""Name, volume, which half of it, how."""


def fio(mountpoint: Path, seed: int, *options: str) -> None:
    """Write each job's half of a volume at random, and compare checksums with what is read back."""
    command = [
        "fio",
        "--rw=randwrite",
        "--verify=crc32c",
        "--verify_fatal=1",
        "--verify_backlog=64",
        "--verify_state_save=0",
        "--thread",
    ]
    command += [f"--randseed={seed}", f"--size={VOLUME_BYTES // 2}", "--allow_file_create=0", *options]
    for name, volume, half, how in FIO_JOBS:
        place = [f"--filename={mountpoint / 'live' / volume}", f"--offset={half * VOLUME_BYTES // 2}"]
        command += [f"--name={name}", *place, *how]
    sh(*command, timeout_s=120)


def test_fio_finds_every_block_it_wrote(server: Mounted) -> None:
    workers = Workers(server.repository, seed=2)
    rounds, going = 0, True
    with Killing(workers, KILLS) as killing:
        while going:
            going = killing.going  # so that the last round runs from its start to its end without a kill
            rounds += 1
            fio(server.mountpoint, rounds)
    assert must_json(server.repository, "check", "--read-data")["damages"] == []
    print(f"{workers}; {rounds} rounds of fio")


def digest(fd: int) -> str:
    return hashlib.sha256(pread_all(fd, VOLUME_BYTES + 1)).hexdigest()


def test_what_is_open_stays_open_and_names_stay_what_they_are(server: Mounted) -> None:
    rng = random.Random(3)
    workers = Workers(server.repository, seed=3)
    live = server.mountpoint / "live" / "db"
    with ExitStack() as stack:
        held: dict[str, tuple[int, int, str]] = {}
        for number in range(min(KILLS, 20)):
            with opened(live, os.O_WRONLY) as fd:
                os.pwrite(fd, rng.randbytes(MIB), 0)
            name = f"b{number}"
            must(server.repository, "bookmark", "add", name)
            shown = server.mountpoint / "snaps" / name / "db"
            view = stack.enter_context(opened(shown))
            held[name] = (view, shown.stat().st_ino, digest(view))
            workers.kill(after_s_max=0)
            assert {*os.listdir(server.mountpoint / "snaps")} == {*held, "latest"}
            for kept, (fd, inode, content) in held.items():
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                assert digest(fd) == content, f"{kept} read through what was opened {number} workers ago"
                assert (server.mountpoint / "snaps" / kept / "db").stat().st_ino == os.fstat(fd).st_ino == inode
    print(workers)

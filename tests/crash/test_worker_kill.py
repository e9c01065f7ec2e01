"""kill -9 of the worker, again and again, is invisible: no error, each request answered and applied once, soon.

VSNAPFS_WORKER_KILLS says how many kills each test makes.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.crash.history import History
from tests.crash.moments import progress
from tests.crash.writers import STRIPE_BYTES, VOLUMES, Plan, writing
from tests.support.devices import sh
from tests.support.files import opened, pread_all
from tests.support.keeper import ANSWER_S_MAX, Killing, Workers, kills
from tests.support.processes import END_S, Mounted, make_repository, must, must_json
from vsnapfs.repository.repository import Repository

KILLS = kills(6)

pytestmark = [
    pytest.mark.crash, pytest.mark.requires_root, pytest.mark.requires_fuse, pytest.mark.timeout(60 + 10 * KILLS)
]  # fmt: skip

MIB = 1 << 20
WRITERS = 6
"""So many requests are under way when the worker is killed."""
VOLUME_BYTES = WRITERS * STRIPE_BYTES


@pytest.fixture(params=["both", "journal"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mounted]:
    """A server of two volumes, with each way to acknowledge an fsync; segments are sealed often."""
    repository = make_repository(tmp_path / "repository", **dict.fromkeys(VOLUMES, VOLUME_BYTES))
    (repository / "vsnapfs.toml").write_text(f'[journal]\nsegment_size = "1M"\nack = "{request.param}"\n')
    with Mounted(repository, tmp_path / "mount") as server:
        yield server


@pytest.mark.parametrize("also_next", [0, 2], ids=["", "taking-over"])
def test_every_write_is_in_the_history_once_and_in_order(server: Mounted, tmp_path: Path, also_next: int) -> None:
    """also_next: so many workers in a row are killed while they take over."""
    rng = random.Random(1)
    ids = {volume["id"]: volume["name"] for volume in must_json(server.repository, "volume", "list")["volumes"]}
    history = History(dict.fromkeys(VOLUMES, bytes(VOLUME_BYTES)), ids, last_seqno=len(VOLUMES))
    workers = Workers(server.repository, seed=1)
    plans = [Plan(rng.randrange(1, 2**63), stripe) for stripe in range(WRITERS)]
    with writing(plans, server.mountpoint, tmp_path) as writers:
        for _ in range(-(-KILLS // (1 + also_next))):
            progress(writers)
            workers.kill(after_s_max=0.05, also_next=also_next)
        progress(writers)
        slowest_s = max(writer.stop(END_S) for writer in writers)
        acknowledged = [writer.acknowledged() for writer in writers]
    must_json(server.repository, "bookmark", "add", "end")
    with Repository.open(server.repository, owner=False) as reader:
        last = reader.journal.facts().committed_seqno
        seqnos = history.take(reader, plans, rng.sample(range(len(VOLUMES) + 1, last + 1), 12))
        history.assert_points(reader, rng, 12)
    for mine, count in zip(seqnos, acknowledged, strict=True):
        assert len(mine) >= count, f"{count} writes were acknowledged, {len(mine)} are there"
    history.assert_newest({name: server.mountpoint / "live" / name for name in VOLUMES})
    assert must_json(server.repository, "check", "--read-data")["damages"] == []
    print(f"{workers}; {history.records} writes, the slowest took {slowest_s:.2f} s")
    assert slowest_s <= ANSWER_S_MAX * (1 + also_next)


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

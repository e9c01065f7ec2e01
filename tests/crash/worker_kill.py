"""kill -9 of the worker behind its keeper, any number of times: no application sees an error, each write is there once.

Run it as ``python -m tests.crash.worker_kill --count 1000 --seed 1``.
"""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

from tests.crash.counted import main
from tests.crash.history import History
from tests.crash.moments import progress
from tests.crash.writers import STRIPE_BYTES, VOLUMES, Plan, writing
from tests.support.keeper import ANSWER_S_MAX, Workers
from tests.support.processes import END_S, Mounted, make_repository, must_json
from vsnapfs.repository.repository import Repository

WRITERS = 6
"""So many requests are under way when the worker is killed."""
VOLUME_BYTES = WRITERS * STRIPE_BYTES
POINTS = 12
KILLS_PER_ROUND = 20
ACKS = ("both", "journal")


def make_served(directory: Path, ack: str) -> Mounted:
    """A server, not started, of two volumes in a new repository, with a way to acknowledge an fsync; segments are sealed often."""
    repository = make_repository(directory / "repository", **dict.fromkeys(VOLUMES, VOLUME_BYTES))
    (repository / "vsnapfs.toml").write_text(f'[journal]\nsegment_size = "1M"\nack = "{ack}"\n')
    return Mounted(repository, directory / "mount")


def kill_under_load(server: Mounted, directory: Path, seed: int, count: int, also_next: int) -> Workers:
    """Kill workers while six processes write, and compare all that was written in the end.

    Args: directory: for logs. count: how many are killed, at least. also_next: so many workers in a row are killed while they take over.
    """
    rng = random.Random(seed)
    ids = {volume["id"]: volume["name"] for volume in must_json(server.repository, "volume", "list")["volumes"]}
    history = History(dict.fromkeys(VOLUMES, bytes(VOLUME_BYTES)), ids, last_seqno=len(VOLUMES))
    workers = Workers(server.repository, seed)
    plans = [Plan(rng.randrange(1, 2**63), stripe) for stripe in range(WRITERS)]
    with writing(plans, server.mountpoint, directory) as writers:
        while len(workers.killed) < count:
            progress(writers)
            workers.kill(after_s_max=0.05, also_next=also_next)
        progress(writers)
        slowest_s = max(writer.stop(END_S) for writer in writers)
        acknowledged = [writer.acknowledged() for writer in writers]
    must_json(server.repository, "bookmark", "add", "end")
    with Repository.open(server.repository, owner=False) as reader:
        last = reader.journal.facts().committed_seqno
        seqnos = history.take(reader, plans, rng.sample(range(len(VOLUMES) + 1, last + 1), POINTS))
        history.assert_points(reader, rng, POINTS)
    for mine, told in zip(seqnos, acknowledged, strict=True):
        assert len(mine) >= told, f"{told} writes were acknowledged, {len(mine)} are there"
    history.assert_newest({name: server.mountpoint / "live" / name for name in VOLUMES})
    assert must_json(server.repository, "check", "--read-data")["damages"] == []
    print(f"{workers}; {history.records} writes, the slowest took {slowest_s:.2f} s", flush=True)
    assert slowest_s <= ANSWER_S_MAX * (1 + also_next)
    return workers


def play(seed: int, count: int, directory: Path) -> Counter[str]:
    """One repository whose workers are killed, about twenty at most, in every second round also while they take over."""
    also_next, ack = seed % 2 * 2, ACKS[seed // 2 % 2]
    with make_served(directory, ack) as server:
        workers = kill_under_load(server, directory, seed, min(count, KILLS_PER_ROUND), also_next)
    return Counter({"taking over" if also_next else "worker": len(workers.killed)})


if __name__ == "__main__":
    main("worker_kill", play, count=100)

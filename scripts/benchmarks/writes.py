"""Writing: live volumes beside plain files on the same filesystem, all fully allocated before.

A live volume's fsync returns when the data are in two places, journal and primary, each synced: the best ratio it can
reach where the two share a disk is about a half. The kernel sends one fsync of a FUSE file at a time, so jobs on one
volume wait for each other; jobs on several share commits.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks import fio, table
from benchmarks.places import Plan
from benchmarks.samples import Samples, take_turns
from benchmarks.servers import memory_bytes, vsnapfs, vsnapfs_at

MIB = 1 << 20
JOBS = 8

Load = Callable[[Sequence[Path]], float]


def sequential(files: Sequence[Path], size_bytes: int) -> float:
    """1 MiB writes to one file after the other, one fsync at the end of each. Returns: bytes a second."""
    piece = random.Random(7).randbytes(MIB)
    start = time.perf_counter()
    for file in files:
        fd = os.open(file, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            for offset_bytes in range(0, size_bytes, MIB):
                os.pwrite(fd, piece, offset_bytes)
            os.fsync(fd)
        finally:
            os.close(fd)
    return size_bytes * len(files) / (time.perf_counter() - start)


def measure(plan: Plan) -> None:
    """Print the table of writes, and what the server took of memory while it took them."""
    repository, mountpoint = plan.disk / "repository", plan.disk / "mount"
    names = [f"volume-{number}" for number in range(JOBS)]
    size_bytes = plan.volume_bytes // JOBS
    vsnapfs(repository, "init")
    for name in names:
        vsnapfs(repository, "volume", "add", name, "--size", str(size_bytes))
    with vsnapfs_at(repository, mountpoint, "serve") as server:
        plain, live = ([top / name for name in names] for top in (plan.disk, mountpoint / "live"))
        taken = {name: _taken(plan, load, plain, live) for name, load in _loads(plan, size_bytes).items()}
        memory = memory_bytes(server.pid)
    _show(f"{JOBS} volumes of {table.mebibytes(size_bytes)}", taken, memory)


def _loads(plan: Plan, size_bytes: int) -> dict[str, Load]:
    """By name. The first writes everything, so that no later one pays for allocation."""
    return {
        "1 MiB sequential, fsync at the end": partial(sequential, size_bytes=size_bytes),
        "4 KiB random, fsync each": lambda files: fio.durable_writes(files[:1], plan.seconds),
        f"… {JOBS} jobs on one volume": lambda files: fio.durable_writes([files[0]] * JOBS, plan.seconds),
        f"… {JOBS} jobs, a volume each": lambda files: fio.durable_writes(files, plan.seconds),
    }


def _taken(plan: Plan, load: Load, plain: Sequence[Path], live: Sequence[Path]) -> dict[str, Samples]:
    return take_turns({"plain": partial(load, plain), "live": partial(load, live)}, plan.runs)


def _show(volumes: str, taken: dict[str, dict[str, Samples]], memory: dict[str, int]) -> None:
    rows = []
    for number, (name, samples) in enumerate(taken.items()):
        unit = "B/s" if number == 0 else "/s"
        shown = [f"{table.count(samples[which].median)}{unit}" for which in ("plain", "live")]
        rows.append([name, *shown, table.ratio(samples["live"], samples["plain"])])
    used = f"server: {table.mebibytes(memory['VmHWM'])} resident at most, {table.mebibytes(memory['RssAnon'])} its own"
    spread = table.spread(samples for group in taken.values() for samples in group.values())
    table.show(f"Writing, {volumes} on disk", ["", "plain", "live", "ratio"], rows, f"{used}; {spread}")

"""Writing: the live volume beside a plain file on the same filesystem, both fully allocated before.

The live volume's fsync returns when the data are in two places, journal and primary, each synced: the best ratio it can
reach where the two share a disk is about a half.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import fio, table
from benchmarks.places import Plan
from benchmarks.samples import take_turns
from benchmarks.servers import memory_bytes, vsnapfs, vsnapfs_at

MIB = 1 << 20
VOLUME = "volume"

Format = Callable[[float], str]


def sequential(file: Path, size_bytes: int) -> float:
    """1 MiB writes from the start to the end, one fsync after them. Returns: bytes a second, fsync included."""
    piece = random.Random(7).randbytes(MIB)
    fd = os.open(file, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        start = time.perf_counter()
        for offset_bytes in range(0, size_bytes, MIB):
            os.pwrite(fd, piece, offset_bytes)
        os.fsync(fd)
        return size_bytes / (time.perf_counter() - start)
    finally:
        os.close(fd)


def measure(plan: Plan) -> None:
    """Print the table of writes, and what the server took of memory while it took them."""
    repository, mountpoint, plain = plan.disk / "repository", plan.disk / "mount", plan.disk / "plain"
    vsnapfs(repository, "init")
    vsnapfs(repository, "volume", "add", VOLUME, "--size", str(plan.volume_bytes))
    with vsnapfs_at(repository, mountpoint, "serve") as server:
        files = {"plain": plain, "live": mountpoint / "live" / VOLUME}
        rows, spread = _rows(plan, files)
        memory = memory_bytes(server.pid)
    used = f"server: {table.mebibytes(memory['VmHWM'])} resident at most, {table.mebibytes(memory['RssAnon'])} its own"
    table.show(
        f"Writing, {table.mebibytes(plan.volume_bytes)} volume on disk",
        ["", "plain file", "live volume", "ratio"],
        rows,
        f"{used}; {spread}",
    )


def _rows(plan: Plan, files: dict[str, Path]) -> tuple[list[list[str]], str]:
    loads: dict[str, tuple[Callable[[Path], float], Format]] = {
        "1 MiB sequential, fsync at the end": (partial(sequential, size_bytes=plan.volume_bytes), table.rate),
        "4 KiB random, fsync each": (partial(fio.durable_writes, seconds=plan.seconds, jobs=1), _each_second),
        "4 KiB random, fsync each, 8 jobs": (partial(fio.durable_writes, seconds=plan.seconds, jobs=8), _each_second),
    }
    rows, every = [], []
    for name, (load, shown) in loads.items():
        taken = take_turns({which: partial(load, file) for which, file in files.items()}, plan.runs)
        plain, live = taken["plain"], taken["live"]
        rows.append([name, shown(plain.median), shown(live.median), table.ratio(live, plain)])
        every += [plain, live]
    return rows, table.spread(every)


def _each_second(value: float) -> str:
    return f"{table.count(value)}/s"

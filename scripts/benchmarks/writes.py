"""Writing: live volumes beside plain files on the same filesystem, by themselves and through libfuse's example.

All files are fully allocated before. A live volume's fsync returns when the data are in two places, journal and
primary, each synced: the best ratio it can reach where the two share a disk is about a half. The kernel sends one fsync
of a FUSE file at a time, so jobs on one volume wait for each other; jobs on several share commits.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks import fio, table
from benchmarks.claims import Claims
from benchmarks.peers import passthrough_hp
from benchmarks.places import Plan
from benchmarks.samples import take_turns
from benchmarks.servers import memory_bytes, serving_pid, vsnapfs, vsnapfs_at, vsnapfs_json

MIB = 1 << 20
JOBS = 8
LIVE, PLAIN, HP = "live", "plain file", "passthrough_hp"


class Load(NamedTuple):
    """One way to write to volumes."""

    what: str
    run: Callable[[Sequence[Path]], float]
    unit: str
    asked: float
    """The least that a live volume shall reach of passthrough_hp."""


class Commits(NamedTuple):
    """What a server has counted."""

    commits: int
    waits: int


def measure(plan: Plan) -> None:
    """Print a table each for files on disk and in memory, where a sync costs nothing and the way is what is left."""
    for place, where in ((plan.disk, "on disk"), (plan.memory, "in memory")):
        _measure_at(plan, place, where)


def _measure_at(plan: Plan, place: Path, where: str) -> None:
    size_bytes = plan.volume_bytes // JOBS
    claims = Claims(f"Writing, {JOBS} volumes of {table.mebibytes(size_bytes)} {where}")
    if plan.passthrough_hp is None:
        claims.absent("passthrough_hp", "needs --passthrough-hp")
    with _volumes(plan, place, size_bytes) as files:
        for each in files.values():
            sequential(each, size_bytes)  # so that no later one pays for allocation
        for load in _loads(plan, size_bytes):
            _take(plan, place / "repository", load, files, claims)
        memory = memory_bytes(serving_pid(place / "repository"))
    used = f"server: {table.mebibytes(memory['VmHWM'])} resident at most, {table.mebibytes(memory['RssAnon'])} its own"
    claims.show(used)


@contextmanager
def _volumes(plan: Plan, place: Path, size_bytes: int) -> Iterator[dict[str, list[Path]]]:
    """The files of each candidate, by its name."""
    repository, mountpoint, plain = place / "repository", place / "mount", place / "plain"
    names = [f"volume-{number}" for number in range(JOBS)]
    vsnapfs(repository, "init")
    for name in names:
        vsnapfs(repository, "volume", "add", name, "--size", str(size_bytes))
    plain.mkdir()
    with ExitStack() as stack:
        stack.enter_context(vsnapfs_at(repository, mountpoint, "serve"))
        tops = {LIVE: mountpoint / "live", PLAIN: plain}
        if plan.passthrough_hp is not None:
            tops[HP] = stack.enter_context(passthrough_hp(plan.passthrough_hp, plain, place / "hp"))
        yield {candidate: [top / name for name in names] for candidate, top in tops.items()}


def _loads(plan: Plan, size_bytes: int) -> list[Load]:
    fsyncs = partial(fio.durable_writes, seconds=plan.seconds)
    return [
        Load("1 MiB sequential, fsync at the end", partial(sequential, size_bytes=size_bytes), "B/s", 0.45),
        Load(f"4 KiB random O_DIRECT, {JOBS} jobs", lambda files: random_writes([files[0]] * JOBS, plan), "/s", 0.6),
        Load("4 KiB + fsync, 1 job", lambda files: fsyncs(files[:1]), "/s", 0.45),
        Load(f"4 KiB + fsync, {JOBS} jobs", lambda files: fsyncs([files[0]] * JOBS), "/s", 0.45),
        Load(f"4 KiB + fsync, {JOBS} jobs, a volume each", fsyncs, "/s", 0.45),
    ]


def _take(plan: Plan, repository: Path, load: Load, files: Mapping[str, Sequence[Path]], claims: Claims) -> None:
    before = _commits(repository)
    taken = take_turns({name: partial(load.run, each) for name, each in files.items()}, plan.runs)
    after = _commits(repository)
    if HP in taken:
        claims.rate(load.what, taken, LIVE, HP, unit=load.unit, asked=load.asked)
    claims.rate(load.what, taken, LIVE, PLAIN, unit=load.unit, asked=None)
    if load.what.startswith("4 KiB + fsync"):
        each = (after.commits - before.commits) / max(after.waits - before.waits, 1)
        claims.figure(f"{load.what}: commits for each fsync", f"{each:.2f}", "< 1" if str(JOBS) in load.what else "")


def _commits(repository: Path) -> Commits:
    status = vsnapfs_json(repository, "status")
    return Commits(status["commits"], status["commit_waits"])


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


def random_writes(files: Sequence[Path], plan: Plan) -> float:
    """4 KiB O_DIRECT writes; the sync of what the server keeps back is counted too. Returns: writes a second."""
    rate = fio.random_writes(files, plan.seconds)
    start = time.perf_counter()
    fd = os.open(files[0], os.O_WRONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    return rate * plan.seconds / (plan.seconds + time.perf_counter() - start)

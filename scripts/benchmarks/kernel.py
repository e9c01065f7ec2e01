"""Kernel views: what the kernel reads by itself, beside the plain file on the same filesystem; and what opening costs."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks import fio, table
from benchmarks.claims import Claims
from benchmarks.history import BLOCK, VOLUME, Extent, History, bookmark, each_once
from benchmarks.places import Plan
from benchmarks.samples import Samples, take_turns
from benchmarks.servers import has_option, vsnapfs_at

VIEW, PLAIN = "kernel view", "plain file"
GIB = 1 << 30


def measure(plan: Plan) -> None:
    """Print the table of kernel views."""
    claims = Claims("Kernel views, on disk, all in the kernel's cache")
    if has_option("mount", "--data"):
        _warm(plan, claims)
        _open(plan, claims, GIB, plan.extents // 10, "< 100 ms")
        _open(plan, claims, 1024 * GIB, plan.extents, "")
    else:
        claims.absent("everything", "vsnapfs mount has no --data")
    claims.show("open: until the first byte of a bookmark that was not open before since the mount")


@contextmanager
def _shown(history: History, mountpoint: Path) -> Iterator[Path]:
    with vsnapfs_at(history.path, mountpoint, "mount", "--foreground", "--data", "kernel"):
        yield mountpoint / "snaps" / bookmark(1) / VOLUME


def _warm(plan: Plan, claims: Claims) -> None:
    extents = plan.volume_bytes // BLOCK
    history = History(plan.disk / "warm", plan.volume_bytes, each_once(plan.volume_bytes, extents))
    history.grow(Extent(extents, 1))
    plain = plan.disk / "plain"
    with _shown(history, plan.disk / "mount") as view:
        shutil.copyfile(view, plain)
        files = {VIEW: view, PLAIN: plain}
        loads: dict[str, tuple[fio.Load, str]] = {
            "sequential": (_sequential, "B/s"),
            "4 KiB random, 1 job": (lambda file: fio.cached_random_reads([file], plan.seconds), "/s"),
            "4 KiB random, 8 jobs": (lambda file: fio.cached_random_reads([file] * 8, plan.seconds), "/s"),
        }
        for file in files.values():
            _sequential(file)
        size = f"{table.mebibytes(plan.volume_bytes)} in {table.count(extents)} extents"
        for what, (load, unit) in loads.items():
            taken = take_turns({name: partial(load, file) for name, file in files.items()}, plan.runs)
            claims.rate(f"{size}: {what}", taken, VIEW, PLAIN, unit=unit, asked=0.8)


def _sequential(file: Path) -> float:
    """dd of a file that is in the cache. Returns: bytes a second."""
    start = time.perf_counter()
    subprocess.run(["dd", f"if={file}", "of=/dev/null", "bs=1M", "status=none"], check=True)
    return file.stat().st_size / (time.perf_counter() - start)


def _open(plan: Plan, claims: Claims, volume_bytes: int, extents: int, asked: str) -> None:
    history = History(plan.disk / f"open-{volume_bytes}", volume_bytes, each_once(volume_bytes, extents))
    history.grow(Extent(extents, 1))
    taken = Samples(tuple(_first_byte_s(history, plan.disk / "mount") for _ in range(plan.runs)))
    what = f"open {volume_bytes // GIB} GiB, {table.count(extents)} extents"
    claims.figure(what, table.millis(taken.median), asked)
    shutil.rmtree(history.path)


def _first_byte_s(history: History, mountpoint: Path) -> float:
    with _shown(history, mountpoint) as view:
        view.stat()
        start = time.perf_counter()
        fd = os.open(view, os.O_RDONLY)
        try:
            if len(os.pread(fd, 1, 0)) != 1:
                raise RuntimeError(f"{view} is empty")
            return time.perf_counter() - start
        finally:
            os.close(fd)

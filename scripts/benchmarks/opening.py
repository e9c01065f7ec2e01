"""Opening: how long until a mount answers, until bookmarks are listed, until the first byte of one.

The history is the same one at three lengths. Files are in the kernel's cache, as after a backup or an ``ls``; each
first byte is of another bookmark, at another place.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks import table
from benchmarks.history import LONG_VOLUME_BYTES, VOLUME, Extent, History, anywhere
from benchmarks.places import Plan
from benchmarks.samples import Samples
from benchmarks.servers import memory_bytes, vsnapfs_at

STEPS = (100, 10, 1)
"""The history is measured at these parts of its length."""
FIRST_BYTES = 50
OPEN_AT_ONCE = 500


class Opened(NamedTuple):
    """What one mount of the history took."""

    ready_s: float
    list_s: float
    first_byte_s: list[float]
    resident_bytes: int
    own_bytes: int
    """Of the resident, what is not pages of files."""
    open_resident_bytes: int
    """Resident with OPEN_AT_ONCE volumes open."""


def measure(plan: Plan) -> None:
    """Print the table of openings."""
    history = History(plan.disk / "repository", LONG_VOLUME_BYTES, anywhere(LONG_VOLUME_BYTES))
    rows = []
    for part in STEPS:
        started = time.perf_counter()
        before = history.extent.records
        history.grow(Extent(max(plan.records // part, 1), max(plan.bookmarks // part, 1)))
        appended_each_s = (history.extent.records - before) / (time.perf_counter() - started)
        opened = [_open(history, plan.disk / "mount", seed) for seed in range(plan.runs)]
        rows.append(_row(history, opened, appended_each_s))
    table.show("Opening, by length of the history", HEADS, rows, CAPTION)


def _open(history: History, mountpoint: Path, seed: int) -> Opened:
    dice = random.Random(seed)
    started = time.perf_counter()
    with vsnapfs_at(history.path, mountpoint, "mount", "--foreground") as reader:
        ready_s = time.perf_counter() - started
        snaps = mountpoint / "snaps"
        list_s = _timed(lambda: subprocess.run(["ls", str(snaps)], check=True, stdout=subprocess.DEVNULL))
        names = sorted(name for name in os.listdir(snaps) if name != "latest")
        chosen = dice.sample(names, min(FIRST_BYTES, len(names)))
        first_byte_s = [_timed(partial(_read_byte, snaps / name / VOLUME, dice)) for name in chosen]
        memory = memory_bytes(reader.pid)
        with _all_open([snaps / name / VOLUME for name in names[-OPEN_AT_ONCE:]]):
            open_resident_bytes = memory_bytes(reader.pid)["VmRSS"]
    return Opened(ready_s, list_s, first_byte_s, memory["VmRSS"], memory["RssAnon"], open_resident_bytes)


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _read_byte(file: Path, dice: random.Random) -> None:
    """The first byte of data at or after some place in the first half."""
    fd = os.open(file, os.O_RDONLY)
    try:
        offset_bytes = os.lseek(fd, dice.randrange(LONG_VOLUME_BYTES // 2), os.SEEK_DATA)
        if len(os.pread(fd, 1, offset_bytes)) != 1:
            raise RuntimeError(f"{file} ends at {offset_bytes}, where it has data")
    finally:
        os.close(fd)


@contextmanager
def _all_open(files: list[Path]) -> Iterator[None]:
    fds = [os.open(file, os.O_RDONLY) for file in files]
    try:
        yield
    finally:
        for fd in fds:
            os.close(fd)


HEADS = (
    "records",
    "bookmarks",
    "segments",
    "appended",
    "mount ready",
    "ls snaps",
    "first byte",
    "slowest",
    "resident",
    "its own",
    f"{OPEN_AT_ONCE} open",
    "index",
    "framing",
)


CAPTION = (
    "medians; memory is the most of all runs. first byte: of another bookmark each. own: without pages of files. "
    "index: footers, maps, catalog, framing: descriptors, headers; both by payload, 4096 bytes a record"
)


def _row(history: History, opened: list[Opened], appended_each_s: float) -> list[str]:
    sizes = history.sizes()
    first_byte = Samples(tuple(value for each in opened for value in each.first_byte_s))
    return [
        table.count(history.extent.records),
        table.count(history.extent.bookmarks),
        str(sizes.segments),
        f"{table.count(appended_each_s)}/s",
        table.millis(Samples(tuple(each.ready_s for each in opened)).median),
        table.millis(Samples(tuple(each.list_s for each in opened)).median),
        table.millis(first_byte.median),
        table.millis(max(first_byte.values)),
        table.mebibytes(max(each.resident_bytes for each in opened)),
        table.mebibytes(max(each.own_bytes for each in opened)),
        table.mebibytes(max(each.open_resident_bytes for each in opened)),
        table.percent(sizes.index_bytes / sizes.payload_bytes),
        table.percent(sizes.framing_bytes / sizes.payload_bytes),
    ]

"""One bookmark's reads against the length of the history: many bookmarks and records against few, both ours.

The same number of blocks, at the same places, is read of each, so that the medium plays no part. In the long history
these lie scattered over all segments, with everything else written between them.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks import fio, table
from benchmarks.claims import Claims
from benchmarks.history import BLOCK, LONG_VOLUME_BYTES, VOLUME, Extent, History, bookmark
from benchmarks.places import Plan
from benchmarks.samples import take_turns
from benchmarks.servers import mounted_data, vsnapfs_at

SHORTER = 1000
"""The short history has so much fewer records."""
READ_BLOCKS_MAX = 8192
LONG, SHORT = "long", "short"


def measure(plan: Plan) -> None:
    """Print the table of reads by length."""
    records = {LONG: plan.records, SHORT: max(plan.records // SHORTER, 16)}
    read_blocks = min(READ_BLOCKS_MAX, 1 << (records[SHORT].bit_length() - 1))
    extents = {LONG: Extent(plan.records, plan.bookmarks), SHORT: Extent(records[SHORT], 1)}
    with ExitStack() as stack:
        files = {name: _made(plan.disk / name, extent, read_blocks, stack) for name, extent in extents.items()}
        claims = Claims("Reading a bookmark, by length of the history")
        for jobs in (1, 8):
            candidates = {name: partial(_random_reads, plan, file, jobs, read_blocks) for name, file in files.items()}
            what = f"4 KiB random, {jobs} job{'s' if jobs > 1 else ''}"
            claims.rate(what, take_turns(candidates, plan.runs), LONG, SHORT, asked=0.9)
    shown = [f"{table.count(extent.records)} records, {table.count(extent.bookmarks)}" for extent in extents.values()]
    caption = f"ours: {shown[0]} bookmarks; theirs: {shown[1]} bookmark; the same {read_blocks} blocks are read of each"
    claims.show(caption)


def _places(records: int, read_blocks: int) -> Iterator[int]:
    """Where the records go: evenly among them, in no order, the blocks that will be read; else anywhere beside these."""
    dice = random.Random(3)
    every_bytes = LONG_VOLUME_BYTES // read_blocks
    will_be_read = [number * every_bytes for number in range(read_blocks)]
    dice.shuffle(will_be_read)
    for number in range(records):
        before, after = (count * read_blocks // records for count in (number, number + 1))
        if before < after:
            yield will_be_read[before]
        else:
            part, block = dice.randrange(read_blocks), dice.randrange(1, every_bytes // BLOCK)
            yield part * every_bytes + block * BLOCK


def _made(directory: Path, extent: Extent, read_blocks: int, stack: ExitStack) -> Path:
    """The last bookmark of such a history, mounted until the stack is left, all that will be read in the cache below."""
    directory.mkdir()
    history = History(directory / "repository", LONG_VOLUME_BYTES, _places(extent.records, read_blocks))
    history.grow(extent)
    mountpoint = directory / "mount"
    stack.enter_context(vsnapfs_at(history.path, mountpoint, "mount", "--foreground", *mounted_data("verify")))
    file = mountpoint / "snaps" / bookmark(extent.bookmarks) / VOLUME
    _read_once(file, read_blocks)
    return file


def _read_once(file: Path, read_blocks: int) -> None:
    fd = os.open(file, os.O_RDONLY)
    try:
        for number in range(read_blocks):
            if not any(os.pread(fd, BLOCK, number * (LONG_VOLUME_BYTES // read_blocks))):
                raise RuntimeError(f"{file} has a hole where it was written to")
    finally:
        os.close(fd)


def _random_reads(plan: Plan, file: Path, jobs: int, read_blocks: int) -> float:
    return fio.random_reads([file] * jobs, plan.seconds, every_bytes=LONG_VOLUME_BYTES // read_blocks)

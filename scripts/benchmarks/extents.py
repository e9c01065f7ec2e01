"""A bookmark of very many extents: every block of its volume lies at another place of the journal.

It is read beside a plain file of the same content, through libfuse's example. Both lie in memory, so what is measured
is the way, not the medium. Then all of it again over io_uring, where the kernel offers it to FUSE.
"""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks import fio, table
from benchmarks.claims import Claims
from benchmarks.history import BLOCK, VOLUME, Extent, History, bookmark, each_once
from benchmarks.peers import passthrough_hp, uring_enabled
from benchmarks.places import Plan
from benchmarks.reads import sequential
from benchmarks.samples import Samples, take_turns
from benchmarks.servers import mounted_data, takes_settings, vsnapfs_at

OURS, HP = "view", "passthrough_hp"
OURS_URING, HP_URING = "view, io_uring", "passthrough_hp, io_uring"
URING_SETTINGS = '[mount]\ntransport = "io_uring"\n'


def measure(plan: Plan) -> None:
    """Print the table of reads of one bookmark."""
    claims = Claims(f"Reading a bookmark of {table.count(plan.extents)} extents of {BLOCK} bytes, in memory")
    size_bytes = plan.extents * BLOCK
    history = History(plan.memory / "repository", size_bytes, each_once(size_bytes, plan.extents))
    history.grow(Extent(plan.extents, 1))
    with ExitStack() as stack:
        files = _shown(plan, history, stack, claims)
        jobs_1 = _taken(plan, files, lambda file: fio.random_reads([file], plan.seconds))
        jobs_8 = _taken(plan, files, lambda file: fio.random_reads([file] * 8, plan.seconds))
        cold = _taken(plan, files, sequential)
    for ours, other, asked in ((OURS, HP, 1.0), (OURS_URING, HP_URING, 0.9)):
        if not {ours, other} <= files.keys():
            continue
        how = ", io_uring" if ours == OURS_URING else ""
        claims.rate(f"4 KiB random{how}, 1 job", jobs_1, ours, other, asked=asked)
        claims.rate(f"4 KiB random{how}, 8 jobs", jobs_8, ours, other, asked=asked)
        claims.rate(f"dd, cold mount{how}", cold, ours, other, unit="B/s", asked=None)
    if not {OURS, HP} <= files.keys():
        for name, samples in jobs_1.items():
            claims.figure(f"4 KiB random, 1 job, {name}", f"{table.count(samples.median)}/s")
    claims.show("random: O_DIRECT")


def _shown(plan: Plan, history: History, stack: ExitStack, claims: Claims) -> dict[str, Path]:
    """The candidates, mounted until the stack is left. Those on /dev/fuse are mounted before io_uring is enabled."""
    files = {OURS: _view(history, plan.memory / "mount", stack)}
    plain = plan.memory / "plain"
    plain.mkdir()
    shutil.copyfile(files[OURS], plain / VOLUME)
    if plan.passthrough_hp is None:
        claims.absent("all beside passthrough_hp", "needs --passthrough-hp")
        return files
    files[HP] = stack.enter_context(passthrough_hp(plan.passthrough_hp, plain, plan.memory / "hp")) / VOLUME
    if not stack.enter_context(uring_enabled()):
        claims.absent("io_uring", "the kernel does not offer it to FUSE, or we may not enable it")
    elif not takes_settings(history.path, URING_SETTINGS):
        claims.absent("io_uring", "this vsnapfs has no [mount] transport")
    else:
        files[OURS_URING] = _view(history, plan.memory / "mount-uring", stack)
        hp = passthrough_hp(plan.passthrough_hp, plain, plan.memory / "hp-uring", "-o", "io_uring")
        files[HP_URING] = stack.enter_context(hp) / VOLUME
    return files


def _view(history: History, mountpoint: Path, stack: ExitStack) -> Path:
    """The newest bookmark, with checksums compared at each read."""
    stack.enter_context(vsnapfs_at(history.path, mountpoint, "mount", "--foreground", *mounted_data("verify")))
    return mountpoint / "snaps" / bookmark(history.extent.bookmarks) / VOLUME


def _taken(plan: Plan, files: dict[str, Path], load: fio.Load) -> dict[str, Samples]:
    return take_turns({name: partial(load, file) for name, file in files.items()}, plan.runs)

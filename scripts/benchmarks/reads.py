"""Reading one volume: as a view, as the plain file, through a pyfuse3 pass-through, and as a chain of qcow2 images.

All of them hold the same bytes: one full image and scattered 4 KiB writes over it, which the journal has in segments
and the chain in its layers. Everything lies in memory, so what is measured is the way, not the medium.
"""

from __future__ import annotations

import filecmp
import random
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks import fio, table
from benchmarks.places import Plan
from benchmarks.qcow2 import make_chain
from benchmarks.samples import Samples, take_turns
from benchmarks.servers import drop_cache_of, memory_bytes, passthrough, qemu_export, vsnapfs, vsnapfs_at
from benchmarks.trace import Write, apply

BLOCK = 4096
MIB = 1 << 20
VOLUME = "volume"
WRITES_PER_MIB = 64
"""A quarter of the blocks is written anew after the image was taken."""
LAYERS = 10

BOOKMARK = "written"
PLAIN = "plain file"


def scattered(size_bytes: int) -> list[Write]:
    """Writes of one block each, the same at each call."""
    dice = random.Random(11)
    count = size_bytes // MIB * WRITES_PER_MIB
    return [Write(dice.randrange(size_bytes // BLOCK) * BLOCK, dice.randbytes(BLOCK)) for _ in range(count)]


def make_plain(file: Path, size_bytes: int) -> None:
    """The full image."""
    dice = random.Random(5)
    with file.open("wb") as out:
        for _ in range(size_bytes // MIB):
            out.write(dice.randbytes(MIB))


def make_repository(repository: Path, plain: Path, writes: list[Write], mountpoint: Path) -> None:
    """Protect a copy of the image, and write to the live volume: about as many segments as a chain has layers."""
    primary = repository.with_name("primary")
    shutil.copyfile(plain, primary)
    vsnapfs(repository, "init")
    segment_bytes = max(len(writes) * BLOCK // LAYERS, 1 << 20)
    (repository / "vsnapfs.toml").write_text(f'[journal]\nsegment_size = "{segment_bytes}"\n')
    vsnapfs(repository, "volume", "add", VOLUME, "--primary", primary)
    with vsnapfs_at(repository, mountpoint, "serve"):
        apply(mountpoint / "live" / VOLUME, writes)
        vsnapfs(repository, "bookmark", "add", BOOKMARK)


def sequential(file: Path) -> float:
    """dd from the start to the end, with nothing of the file in the kernel's cache. Returns: bytes a second."""
    drop_cache_of(file)
    start = time.perf_counter()
    subprocess.run(["dd", f"if={file}", "of=/dev/null", "bs=1M", "status=none"], check=True)
    return file.stat().st_size / (time.perf_counter() - start)


def measure(plan: Plan) -> None:
    """Print the table of reads, and what the reader took of memory."""
    top, writes = plan.memory, scattered(plan.volume_bytes)
    plain, repository = top / "plain", top / "repository"
    make_plain(plain, plan.volume_bytes)
    chains = {depth: make_chain(top / f"chain-{depth}", plain, writes, depth) for depth in (1, LAYERS)}
    make_repository(repository, plain, writes, top / "live")
    apply(plain, writes)
    with ExitStack() as stack:
        reader = stack.enter_context(vsnapfs_at(repository, top / "mount", "mount", "--foreground"))
        files = {PLAIN: plain, "vsnapfs view": top / "mount" / "snaps" / BOOKMARK / VOLUME}
        files["pyfuse3 pass-through"] = stack.enter_context(passthrough(plain, top / "passthrough"))
        for depth, image in chains.items():
            files[f"qcow2 chain, {depth} deep"] = stack.enter_context(qemu_export(image, top / f"export-{depth}"))
        _check_equal(files)
        taken = [_taken(plan, files, load) for load in _loads(plan)]
        memory = memory_bytes(reader.pid)
    used = f"reader: {table.mebibytes(memory['VmHWM'])} resident at most, {table.mebibytes(memory['RssAnon'])} its own"
    _show(plan, list(files), taken, used)


def _check_equal(files: dict[str, Path]) -> None:
    for name, file in files.items():
        if not filecmp.cmp(files[PLAIN], file, shallow=False):
            raise RuntimeError(f"{name} reads other bytes than the plain file")


def _loads(plan: Plan) -> list[Callable[[Path], float]]:
    return [
        sequential,
        lambda file: fio.random_reads([file], plan.seconds),
        lambda file: fio.random_reads([file] * 8, plan.seconds),
    ]


def _taken(plan: Plan, files: dict[str, Path], load: Callable[[Path], float]) -> dict[str, Samples]:
    return take_turns({name: partial(load, file) for name, file in files.items()}, plan.runs)


def _show(plan: Plan, names: list[str], taken: list[dict[str, Samples]], used: str) -> None:
    rows = []
    for name in names:
        row = [name]
        for number, samples in enumerate(taken):
            shown = table.count(samples[name].median)
            row += [f"{shown}B/s" if number == 0 else f"{shown}/s", table.ratio(samples[name], samples[PLAIN])]
        rows.append(row)
    heads = ["", "dd, cold mount", "ratio", "4 KiB random, 1 job", "ratio", "8 jobs", "ratio"]
    spread = table.spread(samples for group in taken for samples in group.values())
    table.show(f"Reading, {table.mebibytes(plan.volume_bytes)} volume in memory", heads, rows, f"{used}; {spread}")

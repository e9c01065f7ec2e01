"""Reading one volume: as a view, as the plain file, through pass-throughs in Python and C, and as chains of qcow2 images.

All of them hold the same bytes: one full image and scattered 4 KiB writes over it, which the journal has in segments
and the chain in its layers. Everything lies in memory, so what is measured is the way, not the medium.
"""

from __future__ import annotations

import filecmp
import random
import shutil
import subprocess
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks import fio, table
from benchmarks.claims import Claims
from benchmarks.peers import passthrough_hp, pyfuse3_file, qemu_export
from benchmarks.places import Plan
from benchmarks.qcow2 import make_chain
from benchmarks.samples import Samples, take_turns
from benchmarks.servers import drop_cache_of, memory_bytes, mounted_data, vsnapfs, vsnapfs_at
from benchmarks.trace import Write, apply

BLOCK = 4096
MIB = 1 << 20
VOLUME = "volume"
WRITES_PER_MIB = 64
"""A quarter of the blocks is written anew after the image was taken."""
LAYERS = 10

BOOKMARK = "written"
PLAIN, VIEW, HP = "plain file", "vsnapfs view", "passthrough_hp"


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
    """Print the table of reads, what the reader took of memory, and what is asked of it."""
    top, writes = plan.memory, scattered(plan.volume_bytes)
    (top / "plain").mkdir()
    plain, repository = top / "plain" / VOLUME, top / "repository"
    make_plain(plain, plan.volume_bytes)
    chains = {_chain(depth): make_chain(top / f"chain-{depth}", plain, writes, depth) for depth in (1, LAYERS)}
    make_repository(repository, plain, writes, top / "live")
    apply(plain, writes)
    with ExitStack() as stack:
        reader = vsnapfs_at(repository, top / "mount", "mount", "--foreground", *mounted_data("verify"))
        process = stack.enter_context(reader)
        files = {PLAIN: plain, VIEW: top / "mount" / "snaps" / BOOKMARK / VOLUME}
        files["pyfuse3 pass-through"] = stack.enter_context(pyfuse3_file(plain, top / "pyfuse3"))
        if plan.passthrough_hp is not None:
            files[HP] = stack.enter_context(passthrough_hp(plan.passthrough_hp, plain.parent, top / "hp")) / VOLUME
        for number, (name, image) in enumerate(chains.items()):
            files[name] = stack.enter_context(qemu_export(image, top / f"export-{number}"))
        _check_equal(files)
        taken = [_taken(plan, files, load) for load in _loads(plan)]
        memory = memory_bytes(process.pid)
    used = f"reader: {table.mebibytes(memory['VmHWM'])} resident at most, {table.mebibytes(memory['RssAnon'])} its own"
    _show(plan, list(files), taken, used)
    _show_claims(plan, taken, list(chains))


def _chain(depth: int) -> str:
    return f"qcow2 chain, {depth} deep"


def _check_equal(files: dict[str, Path]) -> None:
    for name, file in files.items():
        if not filecmp.cmp(files[PLAIN], file, shallow=False):
            raise RuntimeError(f"{name} reads other bytes than the plain file")


def _loads(plan: Plan) -> list[fio.Load]:
    return [
        sequential,
        lambda file: fio.random_reads([file], plan.seconds),
        lambda file: fio.random_reads([file] * 8, plan.seconds),
    ]


def _taken(plan: Plan, files: dict[str, Path], load: fio.Load) -> dict[str, Samples]:
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


def _show_claims(plan: Plan, taken: list[dict[str, Samples]], chains: list[str]) -> None:
    claims = Claims("Reading: what is asked")
    if plan.passthrough_hp is None:
        claims.absent("passthrough_hp", "needs --passthrough-hp")
    else:
        claims.rate("dd, cold mount", taken[0], VIEW, HP, unit="B/s", asked=1.2)
        claims.rate("4 KiB random, 1 job", taken[1], VIEW, HP, asked=1.0)
        claims.rate("4 KiB random, 8 jobs", taken[2], VIEW, HP, asked=1.0)
    for chain in chains:
        claims.rate("dd, cold mount", taken[0], VIEW, chain, unit="B/s", asked=4.0)
    claims.show("from the table above; the chains are shown by qemu-storage-daemon")

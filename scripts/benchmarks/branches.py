"""Branches: how long until a second PostgreSQL answers, on a branch and on a copy of the image, and what a probe of a hunt takes.

The database lies on ext4 on a live volume, most of which it fills, and was at work until a moment before its bookmark, so either
way its filesystem and PostgreSQL have to recover. The copy is made through the mount, is sparse, and ends on the same disk; nobody
waits until it is on the medium. Both are measured with what the kernel remembers, and after it was made to forget.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks import table
from benchmarks.places import Plan
from benchmarks.samples import Samples
from benchmarks.servers import vsnapfs, vsnapfs_at, vsnapfs_json

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
USER = "postgres"
VOLUME = "disk"
VOLUME_BYTES_MIN = 256 << 20
ROWS_BYTES = 16 << 20
"""Of a unit of pgbench's scale, about."""
APART_BYTES = 160 << 20
"""Of the volume, for everything else."""
LOG_BYTES_MIN = 64 << 20
DROP_CACHES = Path("/proc/sys/vm/drop_caches")
BOOKMARKS = 32
RELEASE_S_MAX = 60.0


class Answered(NamedTuple):
    """What passed until then, in seconds, and what was taken of the disk."""

    made_s: float
    mounted_s: float
    started_s: float
    taken_bytes: int

    @property
    def all_s(self) -> float:
        return self.made_s + self.mounted_s + self.started_s


def measure(plan: Plan) -> None:
    """Print both tables."""
    if shutil.which("runuser") is None or not list(Path("/usr/lib/postgresql").glob("*/bin/postgres")):
        print("not measured: branches: needs PostgreSQL")
        return
    plan.disk.chmod(0o755)
    reached = subprocess.run(["runuser", "-u", USER, "--", "test", "-x", str(plan.disk)], check=False, cwd="/")
    if reached.returncode != 0:
        print(f"not measured: branches: {USER} cannot reach {plan.disk}; choose another --disk")
        return
    volume_bytes = max(plan.volume_bytes, VOLUME_BYTES_MIN)
    with _served(plan.disk, volume_bytes) as repository:
        _fill(plan.disk, repository, volume_bytes)
        _seconds(plan, repository)
        _hunts(plan, repository)


def _seconds(plan: Plan, repository: Path) -> None:
    """The table of both ways, by turns, so that what else goes on on the machine meets both."""
    rows = []
    for remembered in ("warm", "cold"):
        branch, copy = [], []
        for _ in range(plan.runs):
            _settle(remembered == "cold")
            branch.append(_on_branch(plan.disk, repository))
            _settle(remembered == "cold")
            copy.append(_on_copy(plan.disk))
        rows += [_row(f"branch, {remembered}", branch), _row(f"copy of the image, {remembered}", copy)]
    table.show(TITLE, HEADS, rows, CAPTION)


def _settle(forget: bool) -> None:
    """Nothing of what came before is on its way to the disk; forget: and the kernel remembers no file."""
    os.sync()
    if forget:
        DROP_CACHES.write_text("3")


@contextmanager
def _served(disk: Path, volume_bytes: int) -> Iterator[Path]:
    repository = disk / "repository"
    vsnapfs(repository, "init")
    vsnapfs(repository, "volume", "add", VOLUME, "--size", str(volume_bytes))
    with vsnapfs_at(repository, disk / "mount", "serve"):
        yield repository
    for left in ("repository", "mount"):
        shutil.rmtree(disk / left)


def _run(*words: str | Path) -> str:
    done = subprocess.run([str(word) for word in words], check=False, capture_output=True, text=True, cwd="/")
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, words))}: exit {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def _program(name: str) -> Path:
    return max(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))


@contextmanager
def _sockets(disk: Path) -> Iterator[Path]:
    path = disk / "sockets"
    path.mkdir()
    shutil.chown(path, USER, USER)
    yield path
    shutil.rmtree(path)


@contextmanager
def _mounted(image: Path, directory: Path) -> Iterator[Path]:
    directory.mkdir()
    _run("mount", "-o", "loop", image, directory)
    try:
        yield directory
    finally:
        _run("umount", directory)
        directory.rmdir()


@contextmanager
def _database(data: Path, sockets: Path) -> Iterator[None]:
    _run(EXAMPLES / "branch-postgresql", "start", data, sockets)
    try:
        yield
    finally:
        _run(EXAMPLES / "branch-postgresql", "stop", data)


def _fill(disk: Path, repository: Path, volume_bytes: int) -> None:
    """A database that was at work until its bookmark ``b00``; then more bookmarks."""
    scale = max(1, (volume_bytes - APART_BYTES) * 5 // 8 // ROWS_BYTES)
    log_megabytes = max(LOG_BYTES_MIN, volume_bytes // 8) >> 20
    live = disk / "mount" / "live" / VOLUME
    _run("mkfs.ext4", "-q", live)
    with ExitStack() as stack:
        root = stack.enter_context(_mounted(live, disk / "live"))
        data = root / "data"
        data.mkdir()
        shutil.chown(data, USER, USER)
        _run("runuser", "-u", USER, "--", _program("initdb"), "-A", "trust", "--no-instructions", "-N", data)
        with (data / "postgresql.conf").open("a") as settings:
            settings.write(f"max_wal_size = {log_megabytes}MB\n")
        sockets = stack.enter_context(_sockets(disk))
        stack.enter_context(_database(data, sockets))
        pgbench: list[str | Path] = ["runuser", "-u", USER, "--", _program("pgbench"), "-h", sockets]
        _run(*pgbench, "-i", "-q", "-s", str(scale), USER)
        _run("runuser", "-u", USER, "--", _program("psql"), "-h", sockets, "-qc", "CHECKPOINT", USER)
        _run(*pgbench, "-n", "-c", "4", "-T", "3", USER)
        _run("sync", "-f", root)  # what initdb and the script have written without
        for number in range(BOOKMARKS):
            vsnapfs(repository, "bookmark", "add", f"b{number:02}")
            _run(*pgbench, "-n", "-t", "1", USER)


def _on_branch(disk: Path, repository: Path) -> Answered:
    began = time.perf_counter()
    vsnapfs(repository, "branch", "add", "bench", "--from", "b00")
    made = time.perf_counter()
    vsnapfs(repository, "attach", "branch:bench", VOLUME, disk / "attached", "--read-write")
    mounted = time.perf_counter()
    try:
        with _sockets(disk) as sockets, _database(disk / "attached" / "data", sockets):
            started = time.perf_counter()
            taken_bytes: int = vsnapfs_json(repository, "branch", "show", "bench")["used_bytes"]
    finally:
        vsnapfs(repository, "detach", disk / "attached")
    _removed(repository)
    return Answered(made - began, mounted - made, started - mounted, taken_bytes)


def _removed(repository: Path) -> None:
    """The kernel lets go of a loop device's file some time after it was unmounted."""
    give_up_s = time.monotonic() + RELEASE_S_MAX
    while True:
        try:
            vsnapfs(repository, "branch", "remove", "bench")
        except subprocess.CalledProcessError:
            if time.monotonic() > give_up_s:
                raise
            time.sleep(0.05)
        else:
            return


def _on_copy(disk: Path) -> Answered:
    copy = disk / "copy.img"
    began = time.perf_counter()
    _run("cp", "--sparse=always", disk / "mount" / "snaps" / "b00" / VOLUME, copy)
    made = time.perf_counter()
    copy.chmod(0o600)
    with _mounted(copy, disk / "copied") as root:
        mounted = time.perf_counter()
        with _sockets(disk) as sockets, _database(root / "data", sockets):
            started = time.perf_counter()
    taken_bytes = copy.stat().st_blocks * 512
    copy.unlink()
    return Answered(made - began, mounted - made, started - mounted, taken_bytes)


def _row(name: str, answered: list[Answered]) -> list[str]:
    def median(part: str) -> str:
        return table.millis(Samples(tuple(getattr(each, part) for each in answered)).median)

    parts = [median(part) for part in ("made_s", "mounted_s", "started_s", "all_s")]
    return [name, *parts, table.mebibytes(max(each.taken_bytes for each in answered))]


def _hunts(plan: Plan, repository: Path) -> None:
    """A test that costs nothing, so that what is left is what a probe costs."""
    ways = {
        "a branch, mounted": ["--mount"],
        "a branch, as files": [],
        "the point, mounted read-only": ["--mount", "--read-only"],
    }
    rows = []
    for name, options in ways.items():
        took_s, probes = [], 0
        for _ in range(plan.runs):
            log = plan.disk / "hunt.log"
            ends = ["--good", "b00", "--bad", f"b{BOOKMARKS - 1:02}", "--bookmarks-only", "--log", str(log)]
            test = ["--", "sh", "-c", f'test "$VSNAPFS_BOOKMARK" "<" b{BOOKMARKS // 3:02}']
            began = time.perf_counter()
            found = vsnapfs_json(repository, "hunt", *ends, *options, *test)
            took_s.append(time.perf_counter() - began)
            probes = len(found["probes"])
            shutil.rmtree(f"{log}.d", ignore_errors=True)
            for left in plan.disk.glob("hunt.log*"):
                left.unlink()
        each = Samples(tuple(seconds / probes for seconds in took_s))
        rows.append([name, str(probes), table.millis(Samples(tuple(took_s)).median), table.millis(each.median)])
    table.show("A hunt over 32 bookmarks", ("probe", "probes", "in all", "each"), rows, HUNT_CAPTION)


TITLE = "A second PostgreSQL"
HEADS = ("on", "made", "mounted", "answers", "in all", "taken")
CAPTION = "medians, from the command on; both recover a database that was at work. taken: of the disk, at most"
HUNT_CAPTION = "the test costs nothing: it looks at a variable. in all: with the safety bookmark and both ends"

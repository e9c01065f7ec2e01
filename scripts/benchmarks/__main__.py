"""``python -m benchmarks``: choose groups and sizes, make places, print tables."""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import archive, branches, extents, kernel, length, opening, reads, recall, sparse, writes
from benchmarks.peers import uring_switched
from benchmarks.places import Plan
from vsnapfs import __version__
from vsnapfs.core.units import parse_size

GROUPS: dict[str, Callable[[Plan], None]] = {
    "writes": writes.measure,
    "reads": reads.measure,
    "extents": extents.measure,
    "length": length.measure,
    "kernel": kernel.measure,
    "sparse": sparse.measure,
    "opening": opening.measure,
    "branches": branches.measure,
    "archive": archive.measure,
    "recall": recall.measure,
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measure vsnapfs beside others.")
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"of {', '.join(GROUPS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="once and small: whether it runs, not how fast")
    parser.add_argument("--runs", type=int, default=5, help="of each measurement; the median is shown (%(default)s)")
    parser.add_argument("--seconds", type=float, default=3.0, help="of a timed run (%(default)s)")
    parser.add_argument("--volume", type=parse_size, default="512M", help="size of the volumes (%(default)s)")
    parser.add_argument("--records", type=int, default=1_000_000, help="in the largest journal (%(default)s)")
    parser.add_argument("--bookmarks", type=int, default=10_000, help="in the largest journal (%(default)s)")
    parser.add_argument(
        "--extents",
        type=int,
        default=1_000_000,
        help="in the bookmark that is read; 8 KiB of memory each (%(default)s)",
    )
    parser.add_argument(
        "--passthrough-hp", type=Path, help="libfuse's example of that name, to compare with; else not compared with"
    )
    parser.add_argument(
        "--disk", type=Path, default=Path("/var/tmp"), help="where writes and journals go (%(default)s)"
    )
    parser.add_argument("--memory", type=Path, default=Path("/dev/shm"), help="where reads come from (%(default)s)")
    chosen = parser.parse_args()
    unknown = set(chosen.groups) - set(GROUPS)
    if unknown:
        parser.error(f"no group {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}")
    if chosen.passthrough_hp and not os.access(chosen.passthrough_hp, os.X_OK):
        parser.error(f"{chosen.passthrough_hp} is not a program")
    return chosen


def plan_of(chosen: argparse.Namespace, disk: str, memory: str) -> Plan:
    """A quick run keeps the places and nothing else of what was chosen."""
    plan = Plan(
        disk=Path(disk),
        memory=Path(memory),
        runs=chosen.runs,
        seconds=chosen.seconds,
        volume_bytes=chosen.volume,
        records=chosen.records,
        bookmarks=chosen.bookmarks,
        extents=chosen.extents,
        passthrough_hp=chosen.passthrough_hp and chosen.passthrough_hp.absolute(),
    )
    if chosen.quick:
        return plan._replace(runs=1, seconds=0.2, volume_bytes=16 << 20, records=2_000, bookmarks=20, extents=2_000)
    return plan


def main() -> None:
    chosen = arguments()
    print(f"vsnapfs {__version__}, Linux {platform.release()}, {os.cpu_count()} processors, {platform.machine()}")
    for group in chosen.groups or GROUPS:
        with (
            uring_switched(False),  # a group that measures it switches it on
            tempfile.TemporaryDirectory(prefix="vsnapfs-bench-", dir=chosen.disk) as disk,
            tempfile.TemporaryDirectory(prefix="vsnapfs-bench-", dir=chosen.memory) as memory,
        ):
            GROUPS[group](plan_of(chosen, disk, memory))


if __name__ == "__main__":
    main()

"""Every harness by name: how it is started with a count and a seed, what it counts, how much the tests and a soak want of it.

A harness ends with one line of JSON on standard output, which has at least ``failures`` and its count, and with exit
status 0 only if nothing failed. What failed, and how to repeat it, is on standard error.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from tests.fuzz.targets import TARGETS

TOP = Path(__file__).parents[2]
MUTANTS = len(list((TOP / "tests/mutants").glob("*.patch")))

Command = Callable[[Path, int, int], list[str]]
"""(directory of built programs, count, seed) -> what to run."""


class Harness(msgspec.Struct, frozen=True, kw_only=True):
    """``counts``: the member of its last line that is counted. ``in_tests``, ``wanted``: how many in a run of the tests, and in
    all soaks together."""

    command: Command
    counts: str
    in_tests: int
    wanted: int
    program: str | None = None
    """The C program of tests/harness that has to be built."""


def _program(name: str, option: str = "--states", *, in_tests: int, wanted: int) -> Harness:
    def command(built: Path, count: int, seed: int) -> list[str]:
        return [str(built / name), "--seed", str(seed), option, str(count)]

    return Harness(command=command, counts="states", in_tests=in_tests, wanted=wanted, program=name)


def _module(name: str, *options: str, counts: str = "states", in_tests: int, wanted: int) -> Harness:
    def command(_: Path, count: int, seed: int) -> list[str]:
        return [sys.executable, "-m", name, *options, "--seed", str(seed), "--count", str(count)]

    return Harness(command=command, counts=counts, in_tests=in_tests, wanted=wanted)


HARNESSES: dict[str, Harness] = {
    "crash_states": _program("crash_states", in_tests=25_000, wanted=1_000_000),
    "base_moves": _program("base_moves", in_tests=4_000, wanted=100_000),
    "branch_states": _program("branch_states", in_tests=20_000, wanted=1_000_000),
    "damage": _program("damage", in_tests=20_000, wanted=1_000_000),
    "fault_points": _program("fault_points", in_tests=6_000, wanted=100_000),
    "kill_points": _program("kill_points", "--count", in_tests=400, wanted=40_000),
    "kill": _module("tests.crash.kill", in_tests=100, wanted=5_000),
    "worker_kill": _module("tests.crash.worker_kill", in_tests=24, wanted=5_000),
    "prune_kill": _module("tests.crash.prune_kill", in_tests=8, wanted=2_000),
    "archive_kill": _module("tests.crash.archive_kill", in_tests=6, wanted=1_000),
    "restore_kill": _module("tests.crash.restore_kill", in_tests=10, wanted=1_000),
    "hunts": _module("tests.crash.hunts", in_tests=3, wanted=1_000),
    "side_by_side": _module("tests.crash.side_by_side", in_tests=200, wanted=200_000),
    "restore_shutdown": _module("tests.crash.restore_shutdown", in_tests=6, wanted=1_000),
    "days": _module("tests.crash.days", in_tests=8, wanted=2_000),
    "federated": _module("tests.crash.federated", in_tests=38, wanted=5_000),
    "quiesce": _module("tests.crash.quiesce", in_tests=23, wanted=2_000),
    "quiesced": _module("tests.applications.quiesced", counts="bookmarks", in_tests=3, wanted=500),
    "shutdown": _module("tests.crash.shutdown", in_tests=32, wanted=1_000),
    "power_cut": _module("tests.crash.power_cut", in_tests=4, wanted=1_000),
    **{
        f"logged_{kind}": _module("tests.crash.logged_writes", "--filesystem", kind, in_tests=200, wanted=33_000)
        for kind in ("ext4", "xfs", "btrfs")
    },
    **{
        kind: _module("tests.applications", "--application", kind, counts="bookmarks", in_tests=10, wanted=500)
        for kind in ("postgresql", "mariadb", "sqlite")
    },
    **{
        f"fuzz_{target}": _module(
            "tests.fuzz", "--target", target, counts="executions", in_tests=10_000, wanted=10_000_000
        )
        for target in TARGETS
    },
    "mutants": _module("tests.mutants", counts="mutants", in_tests=20, wanted=MUTANTS),
}

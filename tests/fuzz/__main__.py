"""Fuzz one target: ``python -m tests.fuzz --target T --executions N | --seconds S [--seed X] [--work DIR]``.

The last line on standard output is one JSON object (targets.Run). What failed, with its input, is on standard error; the input stays
in ``--work`` if that is given. Exit status 0: nothing failed.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
from pathlib import Path

import msgspec

from tests.fuzz.targets import TARGETS, Outcome, built, fuzz

SHOWN_LINES = 60


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz one target.")
    parser.add_argument("--target", required=True, choices=TARGETS)
    parser.add_argument("--executions", "--count", type=int, help="end after so many")
    parser.add_argument("--seconds", type=int, help="end after so long")
    parser.add_argument("--seed", type=int, help="of the mutations (random)")
    parser.add_argument("--work", type=Path, help="a directory that keeps the corpus and what failed")
    given = parser.parse_args()
    if not (given.executions or given.seconds):
        parser.error("--executions or --seconds must say when to end")
    seed = given.seed if given.seed is not None else 1 + secrets.randbelow(2**31 - 1)
    with built([given.target]) as out, tempfile.TemporaryDirectory(prefix="vsnapfs-fuzz-") as scratch:
        work = given.work.absolute() if given.work else Path(scratch)
        outcome = fuzz(given.target, out, work, seed=seed, executions=given.executions, seconds=given.seconds)
        if outcome.run.failures:
            print(failure_text(outcome), file=sys.stderr)
    print(msgspec.json.encode(outcome.run).decode())
    return 1 if outcome.run.failures else 0


def failure_text(outcome: Outcome) -> str:
    """What a run said of its failure, and the inputs in hexadecimal, so that a log is enough to repeat it."""
    lines = [line for line in outcome.output.splitlines() if not line.startswith(("#", "INFO:"))]
    inputs = [f"{path.name}: {path.read_bytes().hex()}" for path in outcome.artifacts]
    return "\n".join([f"{outcome.run.target}: seed {outcome.run.seed}", *lines[:SHOWN_LINES], *inputs])


if __name__ == "__main__":
    sys.exit(main())

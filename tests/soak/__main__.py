"""``scripts/soak``: run harnesses with large counts and note what came of it."""

from __future__ import annotations

import argparse
import json
import secrets
import subprocess
import sys
import time
from collections import Counter

from tests.harness.building import built
from tests.soak import ledger
from tests.soak.harnesses import HARNESSES, TOP, Harness

TIMES = 10
"""So many times what the tests do, unless --count says how much."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/soak", description="Run harnesses with large counts.")
    parser.add_argument("harness", nargs="*", help=f"which ones (all): {', '.join(HARNESSES)}")
    parser.add_argument("--count", type=float, help="states, kills … of each (ten times what the tests do)")
    parser.add_argument("--seed", type=int, help="to repeat a run")
    parser.add_argument("--totals", action="store_true", help="run nothing, show what the ledger has")
    given = parser.parse_args()
    unknown = set(given.harness) - set(HARNESSES)
    if unknown:
        parser.error(f"no such harness: {', '.join(sorted(unknown))}")
    if given.totals:
        show_totals()
        return 0
    names = given.harness or list(HARNESSES)
    failed = [name for name in names if not run(name, given.count, given.seed)]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def run(name: str, wanted: float | None, given_seed: int | None) -> bool:
    """One harness, to its end. True: nothing failed."""
    harness = HARNESSES[name]
    count = int(wanted or harness.in_tests * TIMES)
    seed = secrets.randbelow(2**31) if given_seed is None else given_seed
    directory = built(harness.program).parent if harness.program else TOP
    commit, began = ledger.commit(), time.monotonic()
    command = harness.command(directory, count, seed)
    done = subprocess.run(command, cwd=TOP, stdout=subprocess.PIPE, text=True, check=False)
    seconds = round(time.monotonic() - began, 1)
    counted, failures = verdict(harness, done.stdout, done.returncode)
    print(f"{name}: seed {seed}, {counted} {harness.counts}, {failures} failures, {seconds} s", flush=True)
    entry = ledger.Entry(
        commit=commit, date=ledger.today(), harness=name, seed=seed, count=counted, failures=failures,
        seconds=seconds,
    )  # fmt: skip
    ledger.add(entry)
    return failures == 0


def verdict(harness: Harness, said: str, status: int) -> tuple[int, int]:
    """(count, failures) of a harness's last line. One that ends badly without saying so has failed once."""
    lines = said.strip().splitlines()
    try:
        last = json.loads(lines[-1]) if lines else {}
    except ValueError:
        last = {}
    failures = int(last.get("failures", 0))
    return int(last.get(harness.counts, 0)), failures if failures or status == 0 else 1


def show_totals() -> None:
    counts, failures = Counter[str](), Counter[str]()
    for entry in ledger.entries():
        counts[entry.harness] += entry.count
        failures[entry.harness] += entry.failures
    print(f"{'harness':14}{'done':>12}{'wanted':>12}{'failures':>10}  counted")
    for name, harness in HARNESSES.items():
        print(f"{name:14}{counts[name]:>12,}{harness.wanted:>12,}{failures[name]:>10}  {harness.counts}")


if __name__ == "__main__":
    sys.exit(main())

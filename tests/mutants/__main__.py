"""Break the code, one patch after the other, and see that each is noticed.

python -m tests.mutants                     all
python -m tests.mutants NAME…               these
python -m tests.mutants --count N --seed S  N in turn, beginning at the S-th
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

from tests.mutants.mutants import WHOLE_S, Mutant, Tree, mutants, tree


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants")
    parser.add_argument("name", nargs="*")
    parser.add_argument("--count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    chosen = in_turn(given.count, given.seed)
    if given.name:
        chosen = [mutant for mutant in mutants() if mutant.name in given.name]
    with tree() as copy:
        failures = len(survivors(copy, chosen))
    print(json.dumps({"harness": "mutants", "seed": given.seed, "mutants": len(chosen), "failures": failures}))
    return 1 if failures else 0


def in_turn(count: int | None, start: int) -> list[Mutant]:
    """``count`` of them (None: all), from the ``start``-th on, around the end."""
    every = mutants()
    count = len(every) if count is None else min(count, len(every))
    return [every[(start + i) % len(every)] for i in range(count)]


def survivors(copy: Tree, chosen: list[Mutant]) -> list[str]:
    """Names of those that nobody noticed, and of killers that fail without any mutant: they would prove nothing."""
    bad = []
    for kind, killer in sorted({(mutant.kind, mutant.killer) for mutant in chosen}):
        whole = Mutant(name="no mutant", kind=kind, killer=killer, patch="")
        if not copy.passes(whole, limit_s=WHOLE_S):
            print(f"{kind} {killer} fails without any mutant", file=sys.stderr)
            bad.append(killer)
    for mutant in chosen:
        began = time.monotonic()
        try:
            with copy.broken(mutant):
                alive = copy.passes(mutant)
        except subprocess.CalledProcessError as error:
            print(f"{mutant.name}: {error}\n{error.stdout}{error.stderr}", file=sys.stderr)
            bad.append(mutant.name)
            continue
        said = "SURVIVED" if alive else "killed"
        print(
            f"{mutant.name}: {said} ({mutant.kind} {mutant.killer}, {time.monotonic() - began:.0f} s)", file=sys.stderr
        )
        bad += [mutant.name] if alive else []
    return bad


if __name__ == "__main__":
    sys.exit(main())

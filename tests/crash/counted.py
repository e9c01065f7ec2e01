"""A harness that is run for a count: played round after round, each from its own seed, told in one line of JSON.

    python -m tests.crash.NAME --count N --seed S

The exit status is 0 only if no round failed. A round that fails is told on stderr, with the command that repeats it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

Play = Callable[[int, int, Path], Counter[str]]
"""Of a seed, the most states to go through (> 0), and an empty directory. Returns how many it was, by kind; raises
AssertionError for what must not be."""


def main(harness: str, play: Play, *, count: int) -> NoReturn:
    """Play until ``--count`` states (default: ``count``) were gone through, with seeds from ``--seed`` on, and exit."""
    parser = argparse.ArgumentParser(prog=f"python -m tests.crash.{harness}")
    parser.add_argument("--count", type=int, default=count)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    kinds: Counter[str] = Counter()
    seed, failures, began = arguments.seed, 0, time.monotonic()
    while kinds.total() < arguments.count:
        left = arguments.count - kinds.total()
        try:
            with tempfile.TemporaryDirectory(prefix=f"{harness}-", ignore_cleanup_errors=True) as directory:
                kinds += play(seed, left, Path(directory))
        except Exception:  # noqa: BLE001  told, counted, and the next seed is played
            traceback.print_exc()
            print(f"repeat: {parser.prog} --count {left} --seed {seed}", file=sys.stderr, flush=True)
            kinds["failed"] += 1
            failures += 1
        seed += 1
    told = {"harness": harness, "seed": arguments.seed, "states": kinds.total(), "failures": failures}
    print(json.dumps(told | {"seconds": round(time.monotonic() - began, 1), "kinds": dict(sorted(kinds.items()))}))
    sys.exit(0 if failures == 0 else 1)

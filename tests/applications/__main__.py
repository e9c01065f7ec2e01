"""Bookmarks of a real application that is killed meanwhile, each opened and compared with what was acknowledged.

python -m tests.applications --application postgresql --count 100 --seed 1
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
import traceback
from collections import Counter

from tests.applications.play import APPLICATIONS, play

BOOKMARKS_MAX = 20
"""Of one repository."""
KILLS = 12
"""Of one repository."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.applications", description=__doc__.splitlines()[0])
    parser.add_argument("--application", choices=APPLICATIONS, required=True)
    parser.add_argument("--count", type=int, default=10, help="bookmarks, of as many repositories as it takes")
    parser.add_argument("--kills", type=int, default=KILLS, help=f"in each repository ({KILLS})")
    parser.add_argument("--seed", type=int, default=1, help="of the first repository; the next one has the next")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # everything is cleaned up then too
    began, failures, bookmarks, acknowledged, kills = time.monotonic(), 0, 0, 0, Counter[str]()
    for number, start in enumerate(range(0, given.count, BOOKMARKS_MAX)):
        seed, wanted = given.seed + number, min(BOOKMARKS_MAX, given.count - start)
        try:
            told = play(given.application, bookmarks=wanted, kills=given.kills, seed=seed)
        except Exception:  # noqa: BLE001  told, counted, and the next repository is played
            traceback.print_exc()
            failed = 1
        else:
            bookmarks, failed = bookmarks + told.bookmarks, told.failed
            acknowledged, kills = acknowledged + told.acknowledged, kills + told.kills
            print(told, file=sys.stderr, flush=True)
        if failed:
            repeat = f"--application {given.application} --count {wanted} --kills {given.kills} --seed {seed}"
            print(f"repeat: {parser.prog} {repeat}", file=sys.stderr, flush=True)
        failures += failed
    last_line = {
        "harness": given.application, "seed": given.seed, "bookmarks": bookmarks, "failures": failures,
        "seconds": round(time.monotonic() - began, 1), "acknowledged": acknowledged, "kills": dict(sorted(kills.items())),
    }  # fmt: skip
    print(json.dumps(last_line))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

"""kill -9 of the real server under load, any number of times.

Run it as ``python -m tests.crash.kill --count 1000 --seed 1``.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.crash.counted import main
from tests.crash.round import Round

KILLS_PER_ROUND = 10
KINDS = ("load", "bookmark", "seal", "recovery", "ending")


def play(seed: int, count: int, directory: Path) -> Counter[str]:
    """One repository whose server is killed again and again, ten times at most."""
    with Round(directory, seed) as played:
        while played.kills.total() < min(KILLS_PER_ROUND, count):
            played.life(KINDS[played.lives % len(KINDS)])
        played.end()
        print(played, flush=True)
    assert played.acknowledged > 0
    return played.kills


if __name__ == "__main__":
    main("kill", play, count=100)

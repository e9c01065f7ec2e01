"""Hunts for a write among a thousand bookmarks: as they are, with points that cannot be told, killed and gone on with.

Each finds the write, in as few probes as is promised, and leaves nothing. Run it as ``python -m tests.crash.hunts --count 100 --seed 1``.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable
from math import ceil, log2
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.crash.counted import main
from tests.e2e.ground import serving
from tests.support.hunting import count_up, counted_below, killed_at_line, leaves_nothing, lines_of, taken_away
from tests.support.processes import must_json

BOOKMARKS, WRITES = 1024, 4
PROBES_MAX, PROBES_WITH_SKIPS_MAX, FURTHER = 11, 14, 2
SKIPPED = 40
KILLS_MAX = 4
HUNTS_PER_ROUND = 50


class Ground:
    """A served repository in which ``seqnos`` count up, and a place for what hunts mount."""

    def __init__(self, repository: Path, place: Path, seqnos: list[int], rng: random.Random) -> None:
        self.repository = repository
        self.place = place
        self.rng = rng
        self.seqnos = seqnos
        self.marks: dict[str, int] = {
            bookmark["name"]: bookmark["seqno"] for bookmark in must_json(repository, "bookmark", "list")["bookmarks"]
        }

    def words(self, log: Path, *test: str) -> tuple[str, ...]:
        ends = ("--good", "m0", "--bad", f"m{BOOKMARKS - 1}")
        return ("hunt", *ends, "--to-write", "--log", str(log), "--", *test)

    def check(self, found: Any, first_bad: int) -> None:
        """It names the write that counted up to ``first_bad``, in not too many probes, and nothing of it is left."""
        assert found["state"] == "found", found
        assert found["write"]["seqno"] == self.seqnos[first_bad], found
        assert found["last_good"]["seqno"] in (self.seqnos[first_bad - 1], self.seqnos[first_bad - 1] + 1), (
            "or its bookmark"
        )
        named = [probe for probe in found["probes"] if probe["point"]["bookmark"] is not None]
        skips = sum(probe["verdict"] == "skip" for probe in found["probes"])
        probes_max = max(PROBES_WITH_SKIPS_MAX, PROBES_MAX + 1 + skips) if skips else PROBES_MAX
        assert len(found["ends"]) + len(named) <= probes_max, found
        further = len(found["probes"]) - len(named)
        assert further <= FURTHER + ceil(log2(self._between(found))) + skips, found
        leaves_nothing(self.repository, self.place)

    def _between(self, found: Any) -> int:
        """How many writes lie between the two bookmarks that were found."""
        good, bad = self.marks[found["last_good_bookmark"]], self.marks[found["first_bad_bookmark"]]
        tested = [
            (probe["point"]["seqno"], probe["verdict"]) for probe in found["probes"] if probe["point"]["bookmark"]
        ]
        good = max([self.marks["m0"], *(seqno for seqno, verdict in tested if verdict == "good" and seqno <= good)])
        bad = min(
            [
                self.marks[f"m{BOOKMARKS - 1}"],
                *(seqno for seqno, verdict in tested if verdict == "bad" and seqno >= bad),
            ]
        )
        return sum(good < seqno < bad for seqno in self.seqnos)


def plain(ground: Ground, log: Path, first_bad: int) -> None:
    found = must_json(ground.repository, *ground.words(log, *counted_below(first_bad)))
    ground.check(found, first_bad)


def with_skips(ground: Ground, log: Path, first_bad: int) -> None:
    """Some bookmarks cannot be told; not those beside the write, else nobody could say that it was that one."""
    needed = {first_bad - 1, first_bad}
    chosen = ground.rng.sample([n for n in range(1, BOOKMARKS - 1) if (n + 1) * WRITES - 1 not in needed], SKIPPED)
    skipped = ",".join(str(ground.marks[f"m{number}"]) for number in chosen)
    shell, option, asks, *rest = counted_below(first_bad)
    asks = f'case ",{skipped}," in *,$VSNAPFS_SEQNO,*) exit 125;; esac; {asks}'
    found = must_json(ground.repository, *ground.words(log, shell, option, asks, *rest))
    ground.check(found, first_bad)


def killed(ground: Ground, log: Path, first_bad: int) -> None:
    """At any line of its log, again and again."""
    words = ground.words(log, *counted_below(first_bad))
    for _ in range(ground.rng.randrange(1, KILLS_MAX + 1)):
        killed_at_line(ground.repository, log, lines_of(log) + ground.rng.randrange(1, 12), words)
        words = ("hunt", "--resume", str(log)) if lines_of(log) else words
    ground.check(must_json(ground.repository, *words), first_bad)


KINDS: list[Callable[[Ground, Path, int], None]] = [plain, with_skips, killed]


def play(seed: int, count: int, directory: Path) -> Counter[str]:
    """One repository, fifty hunts at most."""
    rng = random.Random(seed)
    kinds: Counter[str] = Counter()
    own = {"TMPDIR": str(directory / "place"), "VSNAPFS_RUN": str(directory / "run")}
    seqnos = count_up(directory / "repository", BOOKMARKS, WRITES)
    with (
        patch.dict(os.environ, own),
        taken_away(directory / "place") as place,
        serving(directory / "repository", directory / "mount"),
    ):
        ground = Ground(directory / "repository", place, seqnos, rng)
        for number in range(min(count, HUNTS_PER_ROUND)):
            kind = KINDS[(number + seed) % len(KINDS)]
            kind(ground, directory / f"log{number}", rng.randrange(WRITES, len(seqnos)))
            kinds[kind.__name__] += 1
    return kinds


if __name__ == "__main__":
    main("hunts", play, count=100)

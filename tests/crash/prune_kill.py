"""kill -9 in the middle of prunes, moves of bases and compactions, again and again, loses nothing that was to stay.

Run it as ``python -m tests.crash.prune_kill --count 200 --seed 1``.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.crash.counted import main
from tests.crash.pruner import digests
from tests.support.pruned import SIZE_BYTES, VOLUMES
from vsnapfs.repository.repository import Repository

KILLS_PER_ROUND = 20
CHILD_S_MAX = 120
SETTINGS = """
[journal]
segment_size = "128K"
reserve = "0"
[retention]
protection_window = "5ms"
keep_last = 5
prune = "off"
[retention.names."*-3"]
keep_last = 4
"""


class Ledger:
    """What the killed processes have said, read to its last whole line."""

    def __init__(self, path: Path) -> None:
        self.made: dict[str, dict[str, str]] = {}
        self.may_be_gone: set[str] = set()
        self.pruned = 0
        for text in path.read_text().splitlines():
            line = json.loads(text)
            if "made" in line:
                self.made[line["made"]] = line["sums"]
            self.may_be_gone |= set(line.get("goes", ()))
            self.pruned += "pruned" in line


def assert_nothing_is_lost(path: Path, ledger: Ledger, *, owner: bool) -> None:
    """Every bookmark that was acknowledged stands unless a prune was to drop it, and shows what it did."""
    with Repository.open(path, owner=owner) as repository:
        standing = {bookmark.name for bookmark in repository.bookmarks()}
        lost = set(ledger.made) - standing - ledger.may_be_gone
        assert not lost, f"{sorted(lost)} are gone"
        for name in sorted(standing & set(ledger.made)):
            assert digests(repository, name) == ledger.made[name], f"{name} is not what it was"
        damages = repository.check(read_data=True).damages
        assert damages == []


def play(seed: int, count: int, directory: Path) -> Counter[str]:
    """One repository, twenty kills at most."""
    path, said = directory / "repository", directory / "ledger"
    said.touch()
    Repository.create(path)
    (path / "vsnapfs.toml").write_text(SETTINGS)
    with Repository.open(path, owner=True) as repository:
        for name in VOLUMES:
            repository.volume_add(name, size_bytes=SIZE_BYTES)
    kinds: Counter[str] = Counter()
    for number in range(min(count, KILLS_PER_ROUND)):
        pruned = Ledger(said).pruned
        child = [sys.executable, "-m", "tests.crash.pruner", str(path), str(said), str(seed * 1000 + number)]
        done = subprocess.run(child, capture_output=True, timeout=CHILD_S_MAX, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()
        ledger = Ledger(said)
        kinds["after all" if ledger.pruned == pruned + 4 else "in a prune"] += 1
        for owner in (False, True):
            assert_nothing_is_lost(path, ledger, owner=owner)
    return kinds


if __name__ == "__main__":
    main("prune_kill", play, count=200)

"""A process that writes, names, prunes and kills itself: ``python -m tests.crash.pruner REPOSITORY LEDGER SEED``.

The ledger has what was acknowledged, a line of JSON each: ``made`` (a bookmark, and the digests of its volumes), ``goes`` (bookmarks that
a prune is about to drop), ``pruned``. The kill comes from a thread at a moment of chance of a prune; if all were over before, at the
end.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.pruned import VOLUMES, write_some
from tests.support.volumes import content_at
from vsnapfs.repository.repository import Repository

ROUNDS = 4
BOOKMARKS = 6
WRITES = 50


def digests(repository: Repository, bookmark: str) -> dict[str, str]:
    return {name: hashlib.sha256(content_at(repository, name, bookmark)).hexdigest() for name in VOLUMES}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_after(seconds: float) -> None:
    threading.Timer(seconds, die).start()


def play(repository: Repository, tell: Callable[[dict[str, Any]], None], rng: random.Random, round_: str) -> None:
    took_s = 0.02
    for number in range(ROUNDS):
        for each in range(BOOKMARKS):
            write_some(repository, rng, WRITES)
            name = f"{round_}-{number}-{each}"
            repository.bookmark_add(name)
            tell({"made": name, "sums": digests(repository, name)})
        write_some(repository, rng, WRITES)
        repository.journal.commit()
        tell({"goes": [fate.bookmark for fate in repository.prune_preview().bookmarks if not fate.stays]})
        if number > 0:
            die_after(rng.random() * took_s * 1.5)
        began = time.monotonic()
        repository.prune()
        took_s = time.monotonic() - began
        tell({"pruned": round_})


def main() -> None:
    path, ledger, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    with ledger.open("a", buffering=1) as out, Repository.open(path, owner=True) as repository:
        play(repository, lambda line: void(out.write(json.dumps(line) + "\n")), random.Random(seed), str(seed))
        die()


def void(_: object) -> None:
    """What ``write`` returns is of no interest."""


if __name__ == "__main__":
    main()

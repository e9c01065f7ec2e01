"""Several clients use one server at once, each with whatever comes to its mind: nobody is told what is not so.

Run it as ``python -m tests.crash.side_by_side --count 20000 --seed 1``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.crash.client import MEDIUM, VOLUMES
from tests.crash.counted import main
from tests.e2e.ground import serving
from tests.support.processes import make_repository, must, must_json

CLIENTS = 4
STEPS_PER_ROUND = 2000
ROUND_S_MAX = 600
SETTINGS = """
[journal]
segment_size = "64K"
reserve = "0"
[retention]
protection_window = "50ms"
keep_last = 3
prune = "off"
[media.{medium}]
kind = "pool"
path = "{pool}"
capacity = "8M"
piece = "256K"
"""


def play(seed: int, count: int, directory: Path) -> Counter[str]:
    """One repository, so many steps at most."""
    steps = -(-min(count, STEPS_PER_ROUND) // CLIENTS)
    repository = make_repository(directory / "repository", **VOLUMES)
    (directory / "pool").mkdir()
    (repository / "vsnapfs.toml").write_text(SETTINGS.format(medium=MEDIUM, pool=directory / "pool"))
    kinds: Counter[str] = Counter()
    failures: list[str] = []
    with serving(repository, directory / "mount") as server:
        clients = []
        try:
            for number in range(CLIENTS):
                own = directory / f"client{number}"
                own.mkdir()
                words = (repository, server.mountpoint, own, CLIENTS * seed + number, steps)
                command = [sys.executable, "-m", "tests.crash.client", *map(str, words)]
                clients.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ))
            for client in clients:
                said, _ = client.communicate(timeout=ROUND_S_MAX)
                assert client.returncode == 0, "a client has failed"
                told = json.loads(said.splitlines()[-1])
                kinds.update(told["kinds"])
                failures += told["failures"]
        finally:
            for client in clients:
                client.kill()
                client.wait()
        assert not failures, "\n".join(failures)
        assert [
            branch["problem"] for branch in must_json(repository, "branch", "list")["branches"] if branch["problem"]
        ] == []
        assert "worker died" not in server.log, server.log
    assert must_json(repository, "check")["damages"] == []
    must(repository, "tape", "verify")
    return kinds


if __name__ == "__main__":
    main("side_by_side", play, count=2000)

"""A hunt on a real server: a planted write among many is found and named, and nothing is left, however the hunt ends."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.ground import MIB, refused
from tests.support.processes import Mounted, child, environment, must, must_json, program, run
from tests.support.waiting import eventually

FAILED, USAGE, NOT_FOUND, BUSY, DEGRADED, TIMED_OUT, INTERRUPTED = 1, 2, 3, 5, 8, 9, 130
BLOCK = 4096
PLANTED = b"the defect"
PLANTED_AT = 100 * BLOCK + 1000
WRITES, EVERY = 60, 6
WRONG = ("sh", "-c", f"! grep -q '{PLANTED.decode()}' $1", "sh", "{}")
"""Good where the planted bytes are not."""

pytestmark = [pytest.mark.e2e, pytest.mark.requires_root, pytest.mark.requires_fuse]


class Planted:
    """Writes to the live volume ``db``, one of which is the defect; a bookmark every few. ``seqno``: of that one."""

    def __init__(self, repository: Path, mount: Path, seed: int) -> None:
        chance = random.Random(seed)
        number = chance.randrange(2, WRITES - 2)
        fd = os.open(mount / "live/db", os.O_RDWR)
        try:
            for at in range(WRITES):
                if at == number:
                    os.pwrite(fd, PLANTED, PLANTED_AT)
                    os.fsync(fd)
                    self.seqno = must_json(repository, "status")["last_seqno"]
                else:
                    os.pwrite(fd, chance.randbytes(BLOCK), chance.randrange(100) * BLOCK)
                if at % EVERY == 0:
                    must(repository, "bookmark", "add", f"b{at // EVERY}")
        finally:
            os.close(fd)


@pytest.fixture
def planted(repository: Path, mount: Path, request: pytest.FixtureRequest) -> Planted:
    seed = int.from_bytes(os.urandom(4))
    print(f"seed {seed}")
    return Planted(repository, mount, seed)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where hunts make their directories; in the end all are gone."""
    path = tmp_path / "place"
    path.mkdir()
    monkeypatch.setenv("TMPDIR", str(path))
    monkeypatch.setenv("VSNAPFS_RUN", str(tmp_path / "run"))
    yield path
    assert leftovers(path) == []


def leftovers(place: Path) -> list[str]:
    """Directories and mounts below the place of hunts."""
    mounts = [line for line in Path("/proc/self/mounts").read_text().splitlines() if str(place) in line]
    return [*mounts, *map(str, place.iterdir())]


def branches(repository: Path) -> list[str]:
    return [branch["name"] for branch in must_json(repository, "branch", "list")["branches"]]


def hunted(repository: Path, log: Path, *options: str, test: tuple[str, ...] = WRONG) -> Any:
    return json.loads(must(repository, "hunt", "--log", log, "--json", *options, "--", *test))

"""A hunt on a real server: a planted write among many is found and named, and nothing is left, however the hunt ends."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import must, must_json

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


@pytest.mark.parametrize("jobs", ["1", "3"])
def test_the_planted_write_is_found_and_named(
    repository: Path, planted: Planted, place: Path, tmp_path: Path, jobs: str
) -> None:
    found = hunted(
        repository, tmp_path / "log", "--good", "b0", "--bad", "-0s", "--read-only", "--to-write", "--jobs", jobs
    )
    assert found["state"] == "found"
    assert (found["first_bad"]["seqno"], found["last_good"]["seqno"]) == (planted.seqno, planted.seqno - 1)
    write = found["write"]
    assert (write["seqno"], write["volume"], write["zero"]) == (planted.seqno, "db", False)
    assert (write["offset_bytes"], write["length_bytes"]) == (PLANTED_AT, len(PLANTED))
    assert write["changed_bytes"] == write["compared_bytes"] == len(PLANTED)
    assert PLANTED.hex(" ")[:11] in "".join(line for line in write["hex_diff"] if line.startswith("+"))
    assert write["files_problem"] == "the volume has no filesystem that is known"
    assert found["safety_bookmark"] in [each["name"] for each in must_json(repository, "bookmark", "list")["bookmarks"]]
    assert must_json(repository, "hunt", "--replay", tmp_path / "log") == found
    for probe in found["probes"]:
        assert Path(probe["output"]).parent == tmp_path / "log.d"

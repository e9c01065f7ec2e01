"""kill -9 in the middle of restores, and on from there: the target is the volume as it was, and so is what undo brings back.

Into a new file, into one that exists, and onto the live volume. Run it as ``python -m tests.crash.restore_kill --count 60 --seed 1``.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from tests.crash.counted import main
from tests.crash.restorer import BEGUN
from tests.support.processes import environment, run
from tests.support.volumes import content_at, put
from vsnapfs.repository.repository import Repository

MIB = 1 << 20
SIZE = 16 * MIB
KILLS_PER_ROUND = 20
KINDS = ("new", "in place", "live")
END_S_MAX = 60.0
BUSY = 5


def make(path: Path, rng: random.Random) -> None:
    """Volume ``db``, mostly another at bookmark ``good`` than now."""
    Repository.create(path)
    with Repository.open(path, owner=True) as repository:
        repository.volume_add("db", size_bytes=SIZE)
        put(repository, "db", 0, rng.randbytes(10 * MIB))
        put(repository, "db", 13 * MIB, rng.randbytes(3 * MIB))
        repository.bookmark_add("good")
        spoil(repository, rng)


def spoil(repository: Repository, rng: random.Random) -> None:
    """Write here and there, 8 MiB or so."""
    for _ in range(16):
        put(repository, "db", rng.randrange(0, SIZE - MIB), rng.randbytes(MIB // 2))


class Ground:
    """A repository and a target, restored and killed over and over. place: a directory for the target; None: beside the repository."""

    ends: tuple[int, ...] = (-signal.SIGKILL,)
    """How a restore ends that did not come to its end."""

    def __init__(self, directory: Path, seed: int, place: Path | None = None) -> None:
        self.repository = directory / "repository"
        self.target = (place or directory) / "target" / "db.img"
        self.target.parent.mkdir()
        self.rng = random.Random(seed)
        make(self.repository, self.rng)
        self.good = self.at("good")
        self.usual_s = 0.4

    def at(self, point: str) -> bytes:
        with Repository.open(self.repository, owner=False) as reader:
            return content_at(reader, "db", point)

    def killed(self, *args: str) -> bool:
        """Run a restore and kill it at a random moment; False: it was quicker, and has done it."""
        command = [sys.executable, "-m", "tests.crash.restorer", "restore", *args]
        with subprocess.Popen(
            command, env=environment(self.repository), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            begun = process.stdout.readline()
            assert begun == BEGUN, process.stderr.read().decode()
            began = time.monotonic()
            try:
                process.wait(self.rng.uniform(0, self.usual_s))
            except subprocess.TimeoutExpired:
                self.strike(process)
            status = process.wait(END_S_MAX)
            said = process.stderr.read().decode()
        self.mend()
        if status == 0:
            self.usual_s = time.monotonic() - began
        assert status in (0, *self.ends), said
        return status != 0

    def strike(self, process: subprocess.Popen[bytes]) -> None:
        """End a restore."""
        process.kill()

    def mend(self) -> None:
        """Have all ready for the next one."""

    def settle(self) -> None:
        """What a restore finds is on stable storage."""

    def done(self, *args: str) -> dict[str, int]:
        """Run it to its end."""
        found = run(self.repository, "restore", *args, "--json")
        assert found.returncode == 0, found.stderr
        answer: dict[str, int] = json.loads(found.stdout)
        return answer


def into_file(ground: Ground, *, new: bool) -> bool:
    """Returns whether it was killed before it had done it."""
    target = ground.target
    target.unlink(missing_ok=True)
    if not new:
        damaged = bytearray(ground.good)
        for _ in range(20):
            at = ground.rng.randrange(SIZE - MIB)
            damaged[at : at + MIB // 2] = ground.rng.randbytes(MIB // 2)
        target.write_bytes(damaged)
    ground.settle()
    wanted = ["good", "db", "--to", str(target), *([] if new else ["--force"])]
    killed = ground.killed(*wanted)
    if killed and target.with_name("db.img.vsnapfs-restore").exists():
        again = run(ground.repository, "restore", *wanted)
        assert again.returncode == BUSY, again.stderr
    while killed and not _complete(target, new) and ground.rng.random() < 0.3:
        killed = ground.killed(*wanted, "--resume")
    if killed and not _complete(target, new):
        ground.done(*wanted, "--resume")
    assert target.read_bytes() == ground.good
    assert [path.name for path in target.parent.iterdir()] == ["db.img"]
    return killed


def _complete(target: Path, new: bool) -> bool:
    """A new file that was killed after all was done, its state gone: nothing is to be gone on with."""
    return new and target.exists() and not target.with_name("db.img.vsnapfs-restore").exists()


def onto_live(ground: Ground) -> bool:
    """The same; and undone from the first bookmark that was made."""
    with Repository.open(ground.repository, owner=True) as repository:
        spoil(repository, ground.rng)
        known = {bookmark.name for bookmark in repository.bookmarks()}
    bad = ground.at("-0s")
    killed = ground.killed("good", "db", "--live")
    with Repository.open(ground.repository, owner=False) as reader:
        made = [bookmark.name for bookmark in reader.bookmarks() if bookmark.name not in known]
    ground.done("good", "db", "--live")
    assert ground.at("-0s") == ground.good
    if made:
        ground.done(made[0], "db", "--live")
        assert ground.at("-0s") == bad
    with Repository.open(ground.repository, owner=True) as repository:
        primary = Path(repository.volume("db").primary_path or "")
        assert primary.read_bytes() == (bad if made else ground.good)
        assert repository.check(read_data=True).damages == []
    return killed


def play(seed: int, count: int, directory: Path) -> Counter[str]:
    """One repository, twenty kills at most."""
    ground = Ground(directory, seed)
    kinds: Counter[str] = Counter()
    while kinds.total() < min(count, KILLS_PER_ROUND):
        kind = KINDS[(kinds.total() + seed) % len(KINDS)]
        kinds[kind] += onto_live(ground) if kind == "live" else into_file(ground, new=kind == "new")
    return kinds


if __name__ == "__main__":
    main("restore_kill", play, count=60)

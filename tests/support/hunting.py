"""Repositories with something to be found in them, and what a hunt may leave behind: nothing."""

from __future__ import annotations

import random
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.support.attaching import left_behind
from tests.support.processes import environment, must_json, program, unmount
from tests.support.waiting import eventually, nothing_left
from vsnapfs.mounts.table import mounts
from vsnapfs.repository.repository import Repository

MIB = 1 << 20
BLOCK = 4096
DEFECT = b"the defect"
DEFECT_AT = 100 * BLOCK + 1000
WRITES, EVERY = 60, 6
COUNT_AT = 5 * BLOCK + 40
COUNT_DIGITS = 8


class Planted(NamedTuple):
    """A repository with the volumes ``db`` and ``side``. ``seqno``: of the write to ``db`` that is the defect; ``before``: of the
    write to ``db`` before that. No bookmark is beside either."""

    repository: Path
    seqno: int
    before: int


def plant(path: Path, seed: int) -> Planted:
    """Writes of chance to both, a bookmark every few: ``b0`` to ``b9``."""
    chance = random.Random(seed)
    number = EVERY * chance.randrange(WRITES // EVERY - 1) + chance.randrange(2, EVERY)
    before = planted = 0
    Repository.create(path)
    with Repository.open(path, owner=True) as repository:
        db, side = (repository.volume_add(name, size_bytes=4 * MIB).id for name in ("db", "side"))
        for at in range(WRITES):
            repository.journal.write(side, chance.randrange(1000) * BLOCK, chance.randbytes(BLOCK))
            if at == number:
                planted = repository.journal.write(db, DEFECT_AT, DEFECT)
            else:
                seqno = repository.journal.write(db, chance.randrange(100) * BLOCK, chance.randbytes(BLOCK))
                before = before if planted else seqno
            if at % EVERY == 0:
                repository.bookmark_add(f"b{at // EVERY}")
    return Planted(path, planted, before)


def count_up(path: Path, bookmarks: int, writes: int, settings: str = "") -> list[int]:
    """A repository with the volume ``db``, in which every write counts up a number, and a bookmark after every few: ``m0`` …

    Returns: the seqno of each write: number N was written by the Nth, from 0.
    """
    seqnos: list[int] = []
    Repository.create(path)
    if settings:
        (path / "vsnapfs.toml").write_text(settings)
    with Repository.open(path, owner=True) as repository:
        volume = repository.volume_add("db", size_bytes=MIB).id
        for bookmark in range(bookmarks):
            for _ in range(writes):
                count = f"{len(seqnos):0{COUNT_DIGITS}d}".encode()
                seqnos.append(repository.journal.write(volume, COUNT_AT, count))
            repository.bookmark_add(f"m{bookmark}")
    return seqnos


def counted_below(number: int) -> tuple[str, ...]:
    """A test that is good as long as the volume has not counted up to so much."""
    count = f"dd if=$1 bs=1 skip={COUNT_AT} count={COUNT_DIGITS} status=none"
    return ("sh", "-c", f'[ "$({count} | sed s/^0*//)0" -lt {number}0 ]', "sh", "{}")


@contextmanager
def taken_away(place: Path) -> Iterator[Path]:
    """Whatever a test leaves mounted below a directory is not there afterwards."""
    place.mkdir()
    try:
        yield place
    finally:
        for entry in mounts():
            if entry.path.startswith(f"{place}/"):
                unmount(Path(entry.path))


def killed_at_line(repository: Path, log: Path, line: int, words: tuple[str, ...]) -> None:
    """Run a hunt, and kill it when its log has so many lines; it may be quicker, and end."""
    process = subprocess.Popen(
        [*program(), *words], env=environment(repository), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        eventually(lambda: process.poll() is not None or lines_of(log) >= line, f"line {line}")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def lines_of(log: Path) -> int:
    return log.read_bytes().count(b"\n") if log.exists() else 0


def branches(repository: Path) -> list[str]:
    return [branch["name"] for branch in must_json(repository, "branch", "list")["branches"]]


def left(repository: Path, place: Path) -> list[str]:
    """All that a hunt may leave: branches, mounts, records of them, loop devices, directories."""
    return [*branches(repository), *left_behind(place), *map(str, place.iterdir())]


def leaves_nothing(repository: Path, place: Path) -> None:
    """A loop device goes when the last who looks at it closes it."""
    nothing_left(lambda: left(repository, place))

"""Days of a repository in seconds each: a real server whose wall clock is moved on hour by hour, with writes, a schedule of its own,
and a prune every day.

Run it as ``python -m tests.crash.days --count 90 --seed 1``. A state is a day. What must hold at the end of each:

* there is a bookmark for each hour, and pruning has left those that the rules name and no other
* any instant of the protection window can be read, and the oldest point is not older than the rules need
* all kept bookmarks are what was there when they were made, sha256 by sha256
* files, memory and bytes on disk do not grow once the rules are full
"""

from __future__ import annotations

import hashlib
import os
import random
from collections import Counter
from pathlib import Path
from typing import NamedTuple, Self

from tests.crash.counted import main
from tests.crash.server import Server
from tests.support.clock import Clock
from tests.support.processes import must, must_json
from tests.support.waiting import eventually
from vsnapfs.core.keeping import Prune as PruneResult
from vsnapfs.core.times import NS_PER_S
from vsnapfs.daemon.client import connect
from vsnapfs.daemon.requests import BookmarkList, GetStatus, MakePlan, Prune

HOURS = 24
HOUR_S = 3600.0
VOLUMES = ("data", "wal")
VOLUME_BYTES = 2 << 20
BLOCK_BYTES = 4096
WRITES_PER_HOUR = 12
HOT_BLOCKS = 64
"""Of a volume: four writes of five go to these."""

SETTINGS = """
[journal]
segment_size = "256K"

[retention]
protection_window = "1d"
keep_hourly = 48
keep_daily = 7
keep_weekly = 4
keep_monthly = 3
prune = "off"

[schedule.hourly]
every = "1h"
"""
FULL_DAYS = 40
"""From then on nothing may grow: but for the months' bookmarks, which change little, the rules are full."""
FULL_DAYS_MIN = 10
GROWTH = 1.25
RULES_KEEP_MAX = 48 + 7 + 4 + 3
WINDOW_S = 86400.0
DAYS_MAX = 400
READ_PER_DAY = 6
BOOKMARK_S_MAX = 60.0


class Day(NamedTuple):
    """What is measured at the end of a day."""

    day: int
    bookmarks: int
    bytes_on_disk: int
    files: int
    memory_bytes: int

    def __str__(self) -> str:
        return (
            f"day {self.day}: {self.bookmarks} bookmarks, {self.bytes_on_disk >> 10} KiB in {self.files} files, "
            f"{self.memory_bytes >> 20} MiB of memory"
        )


class Days:
    """A server that lives by a clock of its own, two volumes, and what they held at each bookmark. A context manager."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.ended: list[Day] = []
        self._rng = random.Random(seed)
        self._clock = Clock(directory)
        self._clock.advance(HOUR_S - self._clock.now_ns() / NS_PER_S % HOUR_S)  # else one might be full while this runs
        self._repository = directory / "repository"
        self._mountpoint = directory / "mount"
        self._content = {name: bytearray(VOLUME_BYTES) for name in VOLUMES}
        self._digests: dict[str, dict[str, str]] = {}
        must(self._repository, "init")
        for name in VOLUMES:
            must(self._repository, "volume", "add", name, "--size", f"{VOLUME_BYTES >> 20}M")
        (self._repository / "vsnapfs.toml").write_text(SETTINGS)
        self._server = Server(self._repository, self._mountpoint, self._clock.environment())
        self._client = connect(self._repository)

    def day(self) -> None:
        for _ in range(HOURS):
            self._hour()
        result = self._client.call(Prune())
        assert not result.problems, result.problems
        assert not result.changed, result.changed
        if result.waiting_files:  # the scrub may be reading just now
            eventually(
                lambda: self._client.call(Prune()).waiting_files == 0, "no file waits for a reader, as there is none"
            )
        self._compare(result)
        self.ended.append(self._measure())
        print(self.ended[-1], flush=True)

    def _hour(self) -> None:
        """Write, then let an hour pass: its bookmark has to come, and hold what was written."""
        for name, content in self._content.items():
            fd = os.open(self._mountpoint / "live" / name, os.O_RDWR)
            try:
                for _ in range(WRITES_PER_HOUR):
                    self._write(fd, content)
                os.fsync(fd)
            finally:
                os.close(fd)
        before = set(self._names())
        self._clock.advance(HOUR_S)
        new = eventually(lambda: set(self._names()) - before, "the hour's bookmark", deadline_s=BOOKMARK_S_MAX)
        assert len(new) == 1, new
        eventually(
            lambda: not self._is_running(), "its run has ended"
        )  # else the next hour would pass in it, and be missed
        self._digests[new.pop()] = {
            name: hashlib.sha256(content).hexdigest() for name, content in self._content.items()
        }

    def _write(self, fd: int, content: bytearray) -> None:
        blocks = HOT_BLOCKS if self._rng.random() < 0.8 else VOLUME_BYTES // BLOCK_BYTES
        offset_bytes = self._rng.randrange(blocks) * BLOCK_BYTES
        data = self._rng.randbytes(BLOCK_BYTES)
        os.pwrite(fd, data, offset_bytes)
        content[offset_bytes : offset_bytes + BLOCK_BYTES] = data

    def _is_running(self) -> bool:
        return any(schedule.running for schedule in self._client.call(GetStatus()).schedules)

    def _names(self) -> list[str]:
        return [bookmark.name for bookmark in self._client.call(BookmarkList()).bookmarks]

    def _compare(self, result: PruneResult) -> None:
        """What stays is what was to stay, and reads as it did."""
        names = self._names()
        assert sorted(names) == sorted(fate.bookmark for fate in result.bookmarks if fate.stays)
        assert len(names) <= RULES_KEEP_MAX, names
        assert len(names) >= min(len(self._digests), HOURS + 1)
        for name in {*self._rng.sample(names, min(len(names), READ_PER_DAY)), names[0]}:
            for volume, digest in self._digests[name].items():
                found = hashlib.sha256((self._mountpoint / "snaps" / name / volume).read_bytes()).hexdigest()
                assert found == digest, f"{volume} at {name}"
        oldest = result.after.any_instant
        assert oldest is not None
        behind_s = (self._clock.now_ns() - oldest.time_ns) / NS_PER_S
        assert behind_s >= min(WINDOW_S, HOUR_S * len(self._digests)) - 2 * HOUR_S, f"the window is {behind_s} s"

    def _measure(self) -> Day:
        files = [path for path in self._repository.rglob("*") if path.is_file() and "primary" not in path.parts]
        status = self._client.call(GetStatus())
        resident = next(
            line
            for line in Path(f"/proc/{status.worker_pid}/status").read_text().splitlines()
            if line.startswith("VmRSS")
        )
        return Day(
            day=len(self.ended) + 1,
            bookmarks=status.bookmarks,
            bytes_on_disk=sum(path.stat().st_blocks * 512 for path in files),
            files=len(files),
            memory_bytes=int(resident.split()[1]) << 10,
        )

    def end(self) -> None:
        """Everything is sound and every bookmark left is what it was; what was full did not grow."""
        self._server.stop()
        assert must_json(self._repository, "check", "--read-data")["damages"] == []
        self._server.start()
        for name in self._names():
            for volume, digest in self._digests[name].items():
                assert hashlib.sha256((self._mountpoint / "snaps" / name / volume).read_bytes()).hexdigest() == digest
        plan = self._client.call(MakePlan(noticed_in_s=14 * WINDOW_S, recover_in_s=HOUR_S))
        assert plan.fits
        assert plan.rates.written_bytes_per_hour <= 2 * WRITES_PER_HOUR * BLOCK_BYTES
        self._server.stop()
        full = [day for day in self.ended if day.day > FULL_DAYS]
        if len(full) >= 2 * FULL_DAYS_MIN:
            first, last = full[: len(full) // 2], full[len(full) // 2 :]
            for figure in ("bytes_on_disk", "files", "memory_bytes"):
                before, after = (max(getattr(day, figure) for day in days) for days in (first, last))
                assert after <= GROWTH * before, f"{figure}: {before}, then {after}"

    def __enter__(self) -> Self:
        self._server.__enter__()
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.__exit__()
        self._clock.__exit__()


def play(seed: int, count: int, directory: Path) -> Counter[str]:
    with Days(directory, seed) as days:
        for _ in range(min(count, DAYS_MAX)):
            days.day()
        days.end()
    return Counter(day=len(days.ended))


if __name__ == "__main__":
    main("days", play, count=90)

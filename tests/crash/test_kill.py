"""kill -9 of the real server under load: what was acknowledged is there, and nothing but starting it again is needed.

A round is one repository whose server is killed again and again while two processes write to it, at a moment that a seed chooses:
under load, while a bookmark is made, while a segment is sealed, while it ends, and soon after its start, which is the middle of a
recovery. After each kill the server is started over its dead mount, and everything is compared.

VSNAPFS_KILLS says how many kills there are in all. A kill -9 loses no page cache: this is the process's death; the loss of power is
tested below the core.
"""

from __future__ import annotations

import os
import random
import signal
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.crash.history import History
from tests.crash.moments import Bookmarker, a_moment_more, acknowledgements, new_segment
from tests.crash.server import Server
from tests.crash.writers import STRIPES, VOLUME_BYTES, VOLUMES, Plan, Writer, writing
from tests.support.processes import must, must_json
from vsnapfs.repository.repository import Repository

KILLS = int(os.environ.get("VSNAPFS_KILLS", "30"))
KILLS_PER_ROUND = 10
ROUNDS = -(-KILLS // KILLS_PER_ROUND)
SETTINGS = (
    '[journal]\nsegment_size = "64K"\n',
    '[journal]\nsegment_size = "1M"\nack = "journal"\n',
    "",
)
POINTS_PER_LIFE = 4
POINTS_READ = 12
END_S = 20.0

pytestmark = [pytest.mark.crash, pytest.mark.requires_root, pytest.mark.requires_fuse]


class Round:
    """One repository and its server, from kill to kill. The server runs between two steps."""

    def __init__(self, directory: Path, number: int) -> None:
        self.rng = random.Random(number)
        self.number = number
        self.kills: Counter[str] = Counter()
        self.acknowledged = 0
        self.bookmarks: dict[str, int] = {}
        self._logs = directory
        self._repository = directory / "repository"
        self._mountpoint = directory / "mount"
        self._live = {name: self._mountpoint / "live" / name for name in VOLUMES}
        self._primaries: dict[str, Path] = {}
        self.server = Server(self._repository, self._mountpoint)

    def begin(self) -> None:
        """A repository with a thin volume, and one that begins as an image and keeps it as its primary."""
        image = self._logs / "logs.img"
        image.write_bytes(self.rng.randbytes(VOLUME_BYTES))
        must(self._repository, "init")
        (self._repository / "vsnapfs.toml").write_text(SETTINGS[self.number % len(SETTINGS)])
        must(self._repository, "volume", "add", "db", "--size", str(VOLUME_BYTES))
        must(self._repository, "volume", "add", "logs", "--primary", image)
        volumes = must_json(self._repository, "volume", "list")["volumes"]
        self._primaries = {volume["name"]: Path(volume["primary_path"]) for volume in volumes}
        ids = {volume["id"]: volume["name"] for volume in volumes}
        self.history = History({"db": bytes(VOLUME_BYTES), "logs": image.read_bytes()}, ids, last_seqno=len(ids))
        self.server.start()

    def life(self, kind: str) -> None:
        """Load, kill, start, compare."""
        plans = [Plan(self.rng.randrange(1, 2**63), stripe) for stripe in range(STRIPES)]
        with writing(plans, self._mountpoint, self._logs) as writers:
            bookmarker = Bookmarker(self._repository, f"b{self.kills.total()}", writers)
            self._come_to(kind, writers, bookmarker)
            self.server.kill()
            for writer in writers:
                writer.join(END_S)
            acknowledged = [writer.acknowledged() for writer in writers]
        if bookmarker.asked:
            bookmarker.join(END_S)
        self.kills[kind] += 1
        if kind == "recovery":
            self._kill_recoveries()
        self.server.start()
        self._compare(plans, acknowledged, bookmarker)

    def _come_to(self, kind: str, writers: list[Writer], bookmarker: Bookmarker) -> None:
        """Wait for the moment to kill."""
        acknowledgements(writers, self.rng.randint(1, 60))
        if kind == "bookmark":
            bookmarker.start()
            wanted = self.rng.randint(2, 6)
            acknowledgements_of_bookmarks(bookmarker, wanted)
        elif kind == "seal":
            new_segment(self._repository)
        elif kind == "ending":
            self.server.send(signal.SIGTERM)
        a_moment_more(self.rng, 0.1 if kind == "ending" else 0.004)

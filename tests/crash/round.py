"""One repository whose server is killed again and again under load, and compared with the writers' plans each time."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Self

from tests.crash.history import History
from tests.crash.moments import Bookmarker, a_moment_more, acknowledgements, new_segment
from tests.crash.server import Server
from tests.crash.writers import STRIPES, VOLUME_BYTES, VOLUMES, Plan, Writer, writing
from tests.support.control import ask
from tests.support.processes import must, must_json
from vsnapfs.repository.repository import Repository

SETTINGS = (
    '[journal]\nsegment_size = "64K"\n',
    '[journal]\nsegment_size = "1M"\nack = "journal"\n',
    '[journal]\nsegment_size = "4M"\n',
)
POINTS_PER_LIFE = 4
POINTS_READ = 12
BOOKMARKS_READ = 4
GONE_S_MAX = 60.0


class Round:
    """The server runs whenever no method does. ``acknowledged``: writes that were; ``kills``: by kind, those of
    recoveries among them. A context manager.

    Args: storage: where the repository and the primaries are, if not in ``directory``.
    """

    writers_end: tuple[str, ...] = ()
    """Names of the errnos that a write may end with when the server is struck, besides those of its loss."""

    def __init__(self, directory: Path, seed: int, storage: Path | None = None) -> None:
        self.kills: Counter[str] = Counter()
        self.lives = 0
        self.acknowledged = 0
        self.bookmarks: dict[str, int] = {}
        self.writers: list[Writer] = []
        self._rng = random.Random(seed)
        self._directory = directory
        self._storage = storage or directory
        self._repository = self._storage / "repository"
        self._mountpoint = directory / "mount"
        self._server = Server(self._repository, self._mountpoint)
        self._ready_s = 0.0
        self._primaries = self._make(SETTINGS[seed % len(SETTINGS)])

    def _make(self, settings: str) -> dict[str, Path]:
        """A repository with a thin volume, and one that began as an image, which it keeps as its primary."""
        image = self._storage / "logs.img"
        image.write_bytes(self._rng.randbytes(VOLUME_BYTES))
        must(self._repository, "init")
        (self._repository / "vsnapfs.toml").write_text(settings)
        must(self._repository, "volume", "add", "db", "--size", str(VOLUME_BYTES))
        must(self._repository, "volume", "add", "logs", "--primary", image)
        volumes = must_json(self._repository, "volume", "list")["volumes"]
        contents = {"db": bytes(VOLUME_BYTES), "logs": image.read_bytes()}
        self.history = History(contents, {volume["id"]: volume["name"] for volume in volumes}, last_seqno=len(volumes))
        return {volume["name"]: Path(volume["primary_path"]) for volume in volumes}

    def __enter__(self) -> Self:
        self._server.__enter__()
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.__exit__()

    def __str__(self) -> str:
        torn = len(list((self._repository / "journal").glob("*.torn")))
        kills = ", ".join(f"{count} {kind}" for kind, count in sorted(self.kills.items()))
        writes = f"{self.history.records} writes, {self.acknowledged} of them acknowledged"
        points = f"{len(self.bookmarks)} bookmarks, {len(self.history.digests)} points, {torn} torn tails"
        return f"{self.kills.total()} kills ({kills}); {writes}; {points}"

    def _start(self) -> None:
        began = time.monotonic()
        self._server.start()
        self._ready_s = time.monotonic() - began

    def life(self, kind: str) -> None:
        """Load, kill, start again, compare."""
        plans = [Plan(self._rng.randrange(1, 2**63), stripe) for stripe in range(STRIPES)]
        with writing(plans, self._mountpoint, self._directory, self.writers_end) as writers:
            self.writers = writers
            bookmarker = Bookmarker(self._repository, f"b{self.kills.total()}", writers)
            self._reach(kind, writers, bookmarker)
            self._strike()
            for writer in writers:
                writer.join(GONE_S_MAX)
            acknowledged = [writer.acknowledged() for writer in writers]
        bookmarker.join(GONE_S_MAX)
        assert self.writers_end or bookmarker.refused is None, bookmarker.refused
        self._mend()
        self.lives += 1
        self.kills[kind] += 1
        if kind == "recovery":
            self._kill_recovery()
        self._start()
        self._compare(plans, acknowledged, bookmarker)

    def _strike(self) -> None:
        """What ends the server in its life."""
        self._server.kill()

    def _mend(self) -> None:
        """What is done before the next life, when all who used the server are gone."""

    def _reach(self, kind: str, writers: list[Writer], bookmarker: Bookmarker) -> None:
        """Come to the moment to kill at."""
        acknowledgements(writers, self._rng.randint(1, 60))
        more_s_max = 0.004
        if kind == "bookmark":
            bookmarker.ask(self._rng.randint(2, 6))
        elif kind == "seal":
            new_segment(self._repository)
        elif kind == "ending":
            self._server.send(signal.SIGTERM)
            more_s_max = 0.1
        a_moment_more(self._rng, more_s_max)

    def _kill_recovery(self) -> None:
        """Start and kill, somewhere between the interpreter's first steps and readiness, once or some times."""
        for _ in range(self._rng.randint(1, 3)):
            self._server.spawn()
            a_moment_more(self._rng, self._ready_s)
            self._server.kill()
            self.kills["in recovery"] += 1

    def _compare(self, plans: list[Plan], acknowledged: list[int], bookmarker: Bookmarker) -> None:
        _, answer = ask(self._repository, "bookmark_list")
        known = {bookmark["name"]: bookmark["seqno"] for bookmark in answer["result"]["bookmarks"]}
        with Repository.open(self._repository, owner=False) as reader:
            first, last = self.history.last_seqno + 1, reader.journal.facts().committed_seqno
            some = {self._rng.randint(first - 1, last) for _ in range(POINTS_PER_LIFE)}
            new = {seqno for seqno in known.values() if seqno >= first}
            seqnos = self.history.take(reader, plans, some | new)
            self.history.assert_points(reader, self._rng, POINTS_READ)
        for mine, count in zip(seqnos, acknowledged, strict=True):
            assert len(mine) >= count, f"{count} writes were acknowledged, {len(mine)} are there"
            self.acknowledged += count
        self._compare_bookmarks(known, bookmarker, seqnos)
        self.history.assert_newest({name: self._mountpoint / "live" / name for name in VOLUMES})
        self.history.assert_newest(self._primaries)
        assert must_json(self._repository, "check", "--read-data")["damages"] == []

    def _compare_bookmarks(self, known: dict[str, int], bookmarker: Bookmarker, seqnos: list[list[int]]) -> None:
        """Each that was acknowledged is there, behind the writes acknowledged before it, and is what it was."""
        for name, (seqno, before) in bookmarker.made.items():
            assert known.get(name) == seqno, f"bookmark {name} was at @{seqno}, now at {known.get(name)}"
            for mine, count in zip(seqnos, before, strict=True):
                assert count == 0 or mine[count - 1] < seqno, f"{name} lacks write {count}, acknowledged before it"
        assert self.bookmarks.items() <= known.items()
        self.bookmarks = known
        for name in self._rng.sample(sorted(known), min(BOOKMARKS_READ, len(known))):
            self.history.assert_directory(self._mountpoint / "snaps" / name, known[name])

    def end(self) -> None:
        """Stop the server cleanly: the primaries are complete, every bookmark is what it was, without a server too."""
        self._server.stop()
        self.history.assert_newest(self._primaries)
        with Repository.open(self._repository, owner=False) as reader:
            self.history.assert_points(reader, self._rng, len(self.history.digests))
        must(self._repository, "check", "--read-data")

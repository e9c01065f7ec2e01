"""Moments to kill at: each waits for something that the server has just done under load, and then a moment more."""

from __future__ import annotations

import random
import threading
import time
from http.client import HTTPException
from pathlib import Path

from tests.crash.writers import Writer
from tests.support.control import ask
from tests.support.waiting import eventually

MORE_S_MAX = 0.004


def a_moment_more(rng: random.Random, s_max: float = MORE_S_MAX) -> None:
    """Spin, since a sleep is coarser than what shall be hit."""
    end = time.perf_counter() + rng.uniform(0, s_max)
    while time.perf_counter() < end:
        pass


def acknowledgements(writers: list[Writer], count: int) -> None:
    """Until each writer has been told of ``count`` of its writes, and all run still."""

    def reached() -> bool:
        assert all(writer.is_running() for writer in writers), "a writer ended before the server"
        return all(writer.acknowledged() >= count for writer in writers)

    eventually(reached, f"{count} writes of each writer", deadline_s=30)


def progress(writers: list[Writer]) -> None:
    """Until each writer has been told of one more of its writes than now."""
    before = [writer.acknowledged() for writer in writers]

    def reached() -> bool:
        return all(writer.acknowledged() > count for writer, count in zip(writers, before, strict=True))

    eventually(reached, "another write of each writer", deadline_s=30)


def new_segment(repository: Path) -> None:
    """Until the journal has one segment more: the one before it is being sealed, or just was."""
    before = len(list((repository / "journal").glob("*.seg")))
    eventually(lambda: len(list((repository / "journal").glob("*.seg"))) > before, "a new segment", deadline_s=30)


class Bookmarker:
    """Adds bookmarks without a pause, from a thread of its own, until the server is gone.

    ``asked``: how many it has asked for. ``made``: the seqno of each that it was told of, by name, and the numbers of
    the writes that had been acknowledged before it asked. ``refused``: the answer that ended it, if one did.
    """

    def __init__(self, repository: Path, prefix: str, writers: list[Writer]) -> None:
        self.asked = 0
        self.made: dict[str, tuple[int, list[int]]] = {}
        self.refused: object = None
        self._repository = repository
        self._prefix = prefix
        self._writers = writers
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        """Ends with the server, or refused. Whatever else ends it leaves too few bookmarks for whoever waits for them."""
        try:
            while self.refused is None:
                self._add()
        except (OSError, HTTPException, ValueError, IndexError):  # or half an answer
            pass

    def _add(self) -> None:
        before = [writer.acknowledged() for writer in self._writers]
        self.asked += 1
        name = f"{self._prefix}.{self.asked}"
        _, answer = ask(self._repository, "bookmark_add", {"name": name})
        if "result" in answer:
            self.made[name] = (answer["result"]["seqno"], before)
        else:
            self.refused = answer

    def ask(self, count: int) -> None:
        """Begin, and return when it has asked for ``count``."""
        self._thread.start()
        eventually(lambda: self.asked >= count, f"{count} bookmarks asked for")

    def join(self, deadline_s: float) -> None:
        """Wait for the end of what ``ask`` began, if it was called."""
        if self.asked:
            self._thread.join(deadline_s)
            assert not self._thread.is_alive(), "a request outlived its server"

"""Who writes to a running application: threads that make transfers, each with a connection of its own, and count those
whose commit was answered.
"""

from __future__ import annotations

import random
import threading
from typing import NamedTuple

from tests.applications.application import Application
from tests.applications.session import Session, SessionError, closing
from tests.support.waiting import eventually

END_S_MAX = 150.0


class Counts(NamedTuple):
    """Of each writer. What is in the database lies between the two."""

    acknowledged: tuple[int, ...]
    issued: tuple[int, ...]


class _Writer(threading.Thread):
    """Makes transfers ``done`` + 1, + 2 ... until it is stopped or one fails."""

    def __init__(self, application: Application, number: int, done: int, seed: int) -> None:
        super().__init__(name=f"writer-{number}")
        self.issued = self.acknowledged = done
        self.failure: Exception | None = None
        self.stopping = False
        self.session: Session = application.session(application.book_of(number))
        self._application = application
        self._number = number
        self._rng = random.Random(seed)

    def run(self) -> None:
        try:
            with closing(self.session):
                while not self.stopping:
                    self._transfer()
        except SessionError as failure:
            self.failure = failure

    def _transfer(self) -> None:
        self.issued += 1
        said = self.session.ask_number(
            self._application.transfer(self._number, self.issued, self._rng.randint(-5000, 5000))
        )
        if said != self.issued:
            raise SessionError(f"transfer {self.issued} was answered with {said}")
        self.acknowledged = said


class Writers:
    """The writers of an application, over all its lives. Used by one thread."""

    def __init__(self, count: int, seed: int) -> None:
        self._rng = random.Random(seed)
        self._done = [0] * count
        self._writers: list[_Writer] = []

    def start(self, application: Application) -> None:
        """They go on after what ``assert_kept`` found, or from the beginning."""
        for number, done in enumerate(self._done):
            self._writers.append(_Writer(application, number, done, self._rng.randrange(2**32)))
        for writer in self._writers:
            writer.start()

    def counts(self) -> Counts:
        """Now; also after they have ended, until they start again."""
        acknowledged = tuple(writer.acknowledged for writer in self._writers)
        return Counts(acknowledged, tuple(writer.issued for writer in self._writers))

    def assert_working(self) -> None:
        """Nothing has failed."""
        for writer in self._writers:
            assert writer.failure is None, f"{writer.name}, transfer {writer.issued}: {writer.failure}"
            assert writer.is_alive(), writer.name

    def wait_for_each(self) -> None:
        """Until each has made one more transfer."""
        before = self.counts().acknowledged

        def have_gone_on() -> bool:
            self.assert_working()
            return all(now > then for now, then in zip(self.counts().acknowledged, before, strict=True))

        eventually(have_gone_on, "a transfer of each writer", deadline_s=END_S_MAX)

    def stop(self) -> Counts:
        """End each after the transfer that it is at; none may have failed."""
        self.assert_working()
        for writer in self._writers:
            writer.stopping = True
        self._join()
        for writer in self._writers:
            assert writer.failure is None, f"{writer.name}, transfer {writer.issued}: {writer.failure}"
        return self._ended()

    def kill(self) -> Counts:
        """End each wherever it is, its connection by SIGKILL. May be called at any time."""
        for writer in self._writers:
            writer.stopping = True
            writer.session.kill()
            if writer.ident is None:  # another one got no connection
                writer.session.close()
        self._join()
        return self._ended()

    def _join(self) -> None:
        for writer in self._writers:
            if writer.ident is not None:
                writer.join(END_S_MAX)
            assert not writer.is_alive(), f"{writer.name} does not end"

    def _ended(self) -> Counts:
        counts = self.counts()
        self._writers.clear()
        return counts

    def go_on_after(self, done: list[int]) -> None:
        """When they start again, each goes on after so many."""
        self._done = done

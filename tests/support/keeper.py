"""The two processes of a server: the keeper, which stays, and its worker, which can be killed.

The one place of the tests that knows how to tell them apart: a server's status names the keeper in ``pid`` and the worker
in ``worker_pid``; one that does not answer yet is a child of the keeper with ``--worker`` among its arguments.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.control import ask
from tests.support.processes import children_of, command_of
from tests.support.waiting import eventually

KILLS_VARIABLE = "VSNAPFS_WORKER_KILLS"
ANSWER_S_MAX = 5.0
"""After its worker was killed a server answers within this time."""
WAIT_S_MAX = 90.0
"""So long is waited for it, that a test can say how long it took."""
START_S = 0.8
"""About so long a worker takes until it serves."""
END_S_MAX = 60.0


def kills(default: int) -> int:
    """How often a test shall kill the worker: VSNAPFS_WORKER_KILLS, or else as the test has it."""
    return int(os.environ.get(KILLS_VARIABLE, default))


def worker_of(keeper: int) -> int:
    """The pid of a keeper's only child; where it is just about to start the next one, of that."""
    return eventually(lambda: children_of(keeper), "a worker")[0]


class Workers:
    """The workers of one server, one after the other. ``killed``: their pids, in order, each another."""

    def __init__(self, repository: Path, seed: int) -> None:
        self.killed: list[int] = []
        self.slowest_s = 0.0
        """The longest from a kill until the next worker told its status."""
        self._repository = repository
        self._rng = random.Random(seed)
        self._keeper_pid = 0

    def pid(self) -> int:
        """The worker's that answers now, waiting for one that has not been killed."""
        found: int = eventually(self._pid, "a worker that answers", deadline_s=WAIT_S_MAX)
        return found

    def _pid(self) -> int:
        """0: nobody answers, or one that is dying."""
        try:
            told = ask(self._repository, "status")[1]["result"]
        except (OSError, HTTPException, ValueError, LookupError):
            return 0
        pid = int(told["worker_pid"])
        self._keeper_pid = int(told["pid"])
        return 0 if pid in self.killed else pid

    def _next_pid(self) -> int:
        """Of one that the keeper has started, whether it answers or not; 0: there is none."""
        for pid in children_of(self._keeper_pid):
            if pid not in self.killed and b"--worker" in command_of(pid):
                return pid
        return 0

    def kill(self, after_s_max: float, *, also_next: int = 0) -> None:
        """SIGKILL the worker at a random moment of the time to come, and wait until the next one answers.

        also_next: so many after it are killed while they take over.
        """
        self._kill(self.pid(), after_s_max)
        for _ in range(also_next):
            self._kill(eventually(self._next_pid, "another worker"), START_S)
        began = time.monotonic()
        self.pid()
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)

    def _kill(self, pid: int, after_s_max: float) -> None:
        threading.Event().wait(self._rng.uniform(0, after_s_max))
        os.kill(pid, signal.SIGKILL)
        self.killed.append(pid)

    def __str__(self) -> str:
        return f"{len(self.killed)} workers killed, the next one answered after {self.slowest_s:.2f} s at most"


class Killing:
    """A thread that kills workers while a test does its work. A context manager: left, all were killed.

    ``after_each``: called by the thread with the number of each kill, once the next worker answers.
    """

    def __init__(
        self, workers: Workers, count: int, *, after_s_max: float = 0.5, after_each: Callable[[int], None] | None = None
    ) -> None:
        self._workers = workers
        self._count = count
        self._after_s_max = after_s_max
        self._after_each = after_each
        self._failure: BaseException | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="killing")

    @property
    def going(self) -> bool:
        """There are kills to come."""
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            for number in range(self._count):
                if self._stopping:
                    return
                self._workers.kill(self._after_s_max)
                if self._after_each is not None:
                    self._after_each(number)
        except BaseException as failure:  # noqa: BLE001  raised where the block ends
            self._failure = failure

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stopping = kind is not None
        self._thread.join(END_S_MAX)
        assert not self._thread.is_alive(), "the killing does not end"
        if self._failure is not None:
            raise self._failure from error

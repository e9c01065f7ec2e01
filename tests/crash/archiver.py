"""The command ``archive`` as a process that kills itself at one of its calls: of the system, which make what is on tapes, and of the
catalog of tapes.

Run as ``python -m tests.crash.archiver CALL ARGUMENTS…``; CALL counts from 1, 0: none, and how many there were is the last line on
standard error. The arguments are those of ``vsnapfs``.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from vsnapfs.catalog.tapes import Tapes
from vsnapfs.cli.main import run

CALLS = ("write", "fsync", "rename", "unlink", "ftruncate", "mkdir")
CATALOG_CALLS = ("begin_tape", "begin_archive", "piece_done", "set_full", "complete")


class Counter:
    """Counts calls, and kills the process at one: before it or after it, in turns."""

    def __init__(self, last: int) -> None:
        self.calls = 0
        self._last = last
        self._lock = threading.Lock()

    def counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*args: Any, **kwargs: Any) -> Any:
            self._count()
            done = call(*args, **kwargs)
            self._count()
            return done

        return counting

    def _count(self) -> None:
        with self._lock:
            self.calls += 1
            if self.calls == self._last:
                os.kill(os.getpid(), signal.SIGKILL)


def main() -> int:
    counter = Counter(int(sys.argv[1]))
    for name in CALLS:
        setattr(os, name, counter.counted(getattr(os, name)))
    for name in CATALOG_CALLS:
        setattr(Tapes, name, counter.counted(getattr(Tapes, name)))
    status = run(sys.argv[2:])
    print(counter.calls, file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())

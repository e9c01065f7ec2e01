"""Signals that ask a command to end."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

ASKING = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def ended_as_by_hand() -> Iterator[None]:
    """SIGTERM and SIGHUP end what runs here as Ctrl-C does: by a KeyboardInterrupt, so that what was begun is put away. A second one
    changes nothing, up to the end of the process. One that was ignored when the command started, as nohup(1) has it, stays so.

    It needs no SIGINT: that is ignored in a job that a shell runs in the background. The handler is no SIG_IGN after the first one
    either: programs that are started meanwhile would inherit that. Concurrency: the main thread; for trio see hunt.signals.
    """
    asked = False

    def end(_number: int, _frame: object) -> None:
        nonlocal asked
        if not asked:
            asked = True
            raise KeyboardInterrupt

    heard = [number for number in ASKING if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, end) for number in heard}
    try:
        yield
    finally:
        if not asked:
            for number, handler in before.items():
                signal.signal(number, handler)

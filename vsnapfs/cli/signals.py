"""Signals that ask a command to end."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ended_as_by_hand() -> Iterator[None]:
    """SIGTERM and SIGHUP do what Ctrl-C does: what was begun is put away as it is then. Ctrl-C itself may be ignored, as it is of what a
    shell has put into the background; a SIGHUP that is stays so, as nohup(1) wants it."""
    signals = [signal.SIGTERM, *([] if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else [signal.SIGHUP])]
    before = {number: signal.signal(number, signal.default_int_handler) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

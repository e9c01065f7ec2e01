"""What runs under trio, until a signal asks for its end: an exception that a handler raises would meet trio's own code."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

import trio

T = TypeVar("T")

ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_until_signal(function: Callable[[], Awaitable[T]]) -> T:
    """Run it to its end.

    Raises: KeyboardInterrupt: SIGINT, SIGTERM or SIGHUP came; the function was cancelled, and has ended. A handler that the signal has
    outside is called then, which knows of it so. What is ignored stays so, as nohup(1) wants it. What the function raises.
    Concurrency: the main thread, without an event loop.
    """
    done: list[T] = []
    failed: list[BaseException] = []

    async def told() -> None:
        """What is raised is kept: a nursery would put it into a group."""
        try:
            done.append(await function())
        except Exception as error:  # noqa: BLE001  raised again below
            failed.append(error)

    asked = _Asked()
    heard = [number for number in ASKING if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, asked.hear) for number in heard}
    try:
        trio.run(asked.stop_or_end, told)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if done:
        return done[0]
    if failed:
        raise failed[0]
    asking = None if asked.number is None else signal.getsignal(asked.number)
    if asked.number is not None and callable(asking):
        asking(asked.number, None)
    raise KeyboardInterrupt


class _Asked:
    """Hears of signals from before trio begins until after it has ended: in between another's handler would raise in trio's own code.

    ``number``: the signal that came; None: none did.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._trio: trio.lowlevel.TrioToken | None = None
        self._scope = trio.CancelScope()

    def hear(self, number: int, _frame: object) -> None:
        self.number = number
        if self._trio is not None:
            with suppress(trio.RunFinishedError):
                self._trio.run_sync_soon(self._scope.cancel, idempotent=True)

    async def stop_or_end(self, function: Callable[[], Awaitable[None]]) -> None:
        """Cancel it when a signal comes, or has come already."""
        self._trio = trio.lowlevel.current_trio_token()
        with self._scope:
            if self.number is not None:
                self._scope.cancel()
            await function()

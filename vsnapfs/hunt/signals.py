"""What runs under trio, until a signal asks for its end: an exception that a handler raises would meet trio's own code."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
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

    number = trio.run(_until_signal, told)
    if done:
        return done[0]
    if failed:
        raise failed[0]
    handler = None if number is None else signal.getsignal(number)
    if number is not None and callable(handler):
        handler(number, None)
    raise KeyboardInterrupt


async def _until_signal(function: Callable[[], Awaitable[None]]) -> int | None:
    """Returns: the signal that came; None: it ended by itself."""
    heard = [number for number in ASKING if signal.getsignal(number) != signal.SIG_IGN]
    if not heard:
        await function()
        return None
    came: int | None = None
    with trio.open_signal_receiver(*heard) as signals:
        async with trio.open_nursery() as nursery:

            async def stop() -> None:
                nonlocal came
                async for number in signals:
                    came = number
                    nursery.cancel_scope.cancel()

            nursery.start_soon(stop)
            await function()
            nursery.cancel_scope.cancel()
    return came

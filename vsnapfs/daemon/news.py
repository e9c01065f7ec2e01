"""Events of a server on their way out: to its log, to those that follow, to the command for events.

An event happens in any thread; its log line is written there. What waits does so in trio, and holds no thread.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog
import trio

from vsnapfs.core.errors import BusyError
from vsnapfs.core.events import Event
from vsnapfs.daemon.hook import Hook

if TYPE_CHECKING:
    from vsnapfs.repository.repository import Repository

FOLLOWERS_MAX = 16
"""So many wait at once; each holds a connection, of which others need some."""

log = structlog.get_logger()


def log_event(event: Event) -> None:
    """One line in the log."""
    about = {"subject": event.subject} if event.subject else {}
    getattr(log, event.severity)(event.text, **{**event.detail, "kind": event.kind, **about})


class News:
    """Wakes those that wait for the next event. Of trio's thread, but for ``listener``."""

    def __init__(self, hook: Hook) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._hook = hook
        self._last_id = 0
        self._changed = trio.Event()
        self._waiting = 0
        self.ended = False

    def listener(self, event: Event) -> None:
        """For Repository.listen; in any thread."""
        log_event(event)
        try:
            self._token.run_sync_soon(self._take, event)
        except trio.RunFinishedError:
            """Nobody is left to be told."""

    def _take(self, event: Event) -> None:
        self._last_id = max(self._last_id, event.id)
        self._wake()
        self._hook.put(event)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def settle(self) -> None:
        """Until all that was told by now has come here."""
        settled = trio.Event()
        self._token.run_sync_soon(settled.set)
        await settled.wait()

    def end(self) -> None:
        """Let nobody wait any more."""
        self.ended = True
        self._wake()

    async def wait_newer(self, after: int, wait_s: float) -> None:
        """Until there is an event with a greater id, ``wait_s`` have passed, or the server ends.

        Raises: BusyError: too many wait already.
        """
        if self._waiting >= FOLLOWERS_MAX:
            raise BusyError(f"{FOLLOWERS_MAX} follow the events already", hint="end one of them, or ask again later")
        self._waiting += 1
        try:
            with trio.move_on_after(wait_s):
                while self._last_id <= after and not self.ended:
                    await self._changed.wait()
        finally:
            self._waiting -= 1


@asynccontextmanager
async def telling(repository: Repository) -> AsyncIterator[News]:
    """Log, and run the command for events, while the block runs. What is queued at its end still has a moment."""
    hook = Hook(repository.settings.events, repository)
    news = News(hook)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hook.run)
        repository.listen(news.listener)
        try:
            yield news
        finally:
            await news.settle()
            await hook.drain()
            nursery.cancel_scope.cancel()

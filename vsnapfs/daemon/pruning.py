"""The thread of a server that prunes by itself, as often as the settings say.

It does what ``vsnapfs prune`` does, with idle priority: its reads and writes wait for those of others where the disk's scheduler
knows such a thing, and the processor is given to others first.

Concurrency: one thread, ended by ``stop``; a prune under way gives up when the repository is told to end its work.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog
import trio

from vsnapfs.binding import io_idle
from vsnapfs.core.errors import BusyError, VsnapfsError
from vsnapfs.core.times import NS_PER_S

if TYPE_CHECKING:
    from vsnapfs.core.model import Prune
    from vsnapfs.repository.repository import Repository

FIRST_S_MAX = 60.0
"""A server that has just started has other things to do."""
NICE = 10

log = structlog.get_logger()


@asynccontextmanager
async def pruning(repository: Repository) -> AsyncIterator[None]:
    """Prune now and then while the block runs, if the settings say so."""
    every_ns = repository.settings.retention.prune_every_ns
    if every_ns is None:
        yield
        return
    pruner = Pruner(repository, every_ns / NS_PER_S)
    pruner.start()
    try:
        yield
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(pruner.stop)


class Pruner:
    """Prune after prune, from ``start`` to ``stop``. repository: the owner's."""

    def __init__(self, repository: Repository, every_s: float) -> None:
        self._repository = repository
        self._every_s = every_s
        self._reason = ""
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="vsnapfs-prune", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when the thread has ended: within a few MiB of copying."""
        self._ending.set()
        self._repository.end_work()
        self._thread.join()

    def _run(self) -> None:
        _be_idle()
        self._ending.wait(min(FIRST_S_MAX, self._every_s))
        while not self._ending.is_set():
            began = time.monotonic()
            self.once()
            self._ending.wait(max(0.0, self._every_s - (time.monotonic() - began)))

    def once(self) -> None:
        """One prune, and what is to be said of it."""
        try:
            result = self._repository.prune()
        except BusyError as error:
            if not self._ending.is_set():
                log.warning("no prune this time", reason=str(error))
        except VsnapfsError as error:
            if str(error) != self._reason:
                log.error("the prune failed, and is tried again", reason=str(error), **error.fields())
            self._reason = str(error)
        else:
            self._reason = ""
            _tell(result)


def _be_idle() -> None:
    thread = threading.get_native_id()
    os.setpriority(os.PRIO_PROCESS, thread, max(NICE, os.getpriority(os.PRIO_PROCESS, thread)))
    try:
        io_idle()
    except VsnapfsError as error:
        log.warning("the prune reads and writes with the priority of everybody", reason=str(error))


def _tell(result: Prune) -> None:
    """Nothing of a prune that had nothing to do."""
    if result.removed or result.freed_bytes:
        log.info(
            "pruned",
            removed=[fate.bookmark for fate in result.bookmarks if not fate.stays],
            kept=result.kept,
            freed_bytes=result.freed_bytes,
            predicted_bytes=result.predicted_bytes,
            oldest=None if result.after.oldest is None else result.after.oldest.time,
            any_instant_from=None if result.after.any_instant is None else result.after.any_instant.time,
        )
    if result.changed:
        log.warning("bookmarks changed while they were being pruned, and stay", bookmarks=result.changed)
    if not result.fits:
        log.warning("journal and bases are larger than maximum_size, and nothing else may go")
    for problem in result.problems:
        log.error("less was given back than should have been", reason=problem)

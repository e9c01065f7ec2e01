"""What writes: one thread that takes blocks from a bounded buffer, at a rate, and lets a drive stream.

A drive that gets nothing for a moment stops, winds back and starts again, which costs seconds and tape. So nothing is written
before the buffer is full, and after it ran empty it is filled again first.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Protocol

from vsnapfs.archive.feed import Block
from vsnapfs.media.tape import Waiting


class Writable(Protocol):
    """A tape file, or a file."""

    def write(self, block: memoryview) -> object: ...


class Pace:
    """Not faster than so many bytes a second, from its making on. None: as fast as it goes."""

    def __init__(self, rate_bytes: int | None) -> None:
        self._rate_bytes = rate_bytes
        self._due = time.monotonic()

    def wait(self, written_bytes: int, ended: threading.Event) -> None:
        """After so many were written. What was not used in the last second is not made up for."""
        if self._rate_bytes is None:
            return
        now = time.monotonic()
        self._due = max(self._due, now - 1) + written_bytes / self._rate_bytes
        if self._due > now:
            ended.wait(self._due - now)


class Output:
    """One tape file being written to. Concurrency: one thread puts and ends; one of its own writes.

    Args: fill_bytes: so much is gathered before the first write and after an underrun; 0: nothing is waited for.
    """

    def __init__(self, target: Writable, pace: Pace, *, buffer_bytes: int, fill_bytes: int = 0) -> None:
        self._target = target
        self._pace = pace
        self._buffer_bytes = buffer_bytes
        self._fill_bytes = min(fill_bytes, buffer_bytes)
        self._blocks: deque[Block] = deque()
        self._queued_bytes = 0
        self._changed = threading.Condition()
        self._complete = False
        """No more comes."""
        self._ended = threading.Event()
        """Nothing more is to be written."""
        self._error: BaseException | None = None
        self.written_bytes = 0
        self.underruns = 0
        self._thread = threading.Thread(target=self._writing, name="archive-write", daemon=True)
        self._thread.start()

    def put(self, block: Block) -> None:
        """Behind the others, when there is room. Raises: what writing one before has raised."""
        with self._changed:
            self._changed.wait_for(lambda: self._queued_bytes < self._buffer_bytes or self._error is not None)
            self._raise()
            self._blocks.append(block)
            self._queued_bytes += len(block.memory)
            self._changed.notify_all()

    def end(self) -> None:
        """All is written when it returns. Raises: as ``put``."""
        with self._changed:
            self._complete = True
            self._changed.notify_all()
        self._thread.join()
        self._raise()

    def abandon(self) -> None:
        """Write nothing more; what is being written ends first. Never raises, and after ``end`` does nothing."""
        self._ended.set()
        if isinstance(self._target, Waiting) and self._thread.is_alive():
            self._target.give_up()
        with self._changed:
            self._complete = True
            self._changed.notify_all()
        self._thread.join()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _writing(self) -> None:
        try:
            filling = True
            while (block := self._next(filling=filling)) is not None and not self._ended.is_set():
                self._target.write(block.memory)
                block.free()
                self.written_bytes += len(block.memory)
                self._pace.wait(len(block.memory), self._ended)
                filling = not self._blocks
        except BaseException as error:  # noqa: BLE001  raised again by who puts
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _next(self, *, filling: bool) -> Block | None:
        """None: no more comes. filling: the buffer is filled first."""
        with self._changed:
            least = max(self._fill_bytes, 1) if filling else 1
            if filling and self.written_bytes and self._fill_bytes and not self._complete:
                self.underruns += 1
            self._changed.wait_for(lambda: self._queued_bytes >= least or self._complete)
            if not self._blocks:
                return None
            block = self._blocks.popleft()
            self._queued_bytes -= len(block.memory)
            self._changed.notify_all()
            return block

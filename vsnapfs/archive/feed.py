"""The stream read ahead: one thread reads, one takes digests, in a bounded number of buffers that go round.

The kernel and OpenSSL do the work without the interpreter lock, so the two and whoever takes the blocks use a processor each.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import NamedTuple

from vsnapfs.archive.sums import SummedStream

BLOCK_BYTES = 1 << 20
BLOCKS_MORE = 4
"""Beside those of the buffer: some are short, where a piece or the data end, and whoever waits for a full buffer must get one."""


class Block(NamedTuple):
    """Bytes to be written. ``free``: to be called once, when nobody needs them any more."""

    memory: memoryview
    free: Callable[[], None]


def kept(content: bytes) -> Block:
    """A block of its own."""
    return Block(memoryview(content), _nothing)


def _nothing() -> None:
    pass


class _Failed(NamedTuple):
    error: BaseException


class _Read(NamedTuple):
    offset_bytes: int
    block: Block


class _Barrier(NamedTuple):
    """Sets the event when all before it has been taken."""

    reached: threading.Event


class Feed:
    """The stream from an offset on, once, in order.

    Resource handling: two threads, from the beginning to ``close``. Concurrency: one thread takes.
    """

    def __init__(
        self,
        stream: SummedStream,
        offset_bytes: int,
        buffer_bytes: int,
        caught_up: Callable[[int], None] | None = None,
    ) -> None:
        """offset_bytes: digests of what is before it are made up for first; caught_up: is told how far, in a thread of its own.
        buffer_bytes: so much is read ahead."""
        self._stream = stream
        self._caught_up = caught_up
        self._start = offset_bytes
        self._closed = threading.Event()
        self._left: Block | None = None
        """What was read and is behind the piece that was taken last."""
        self._free: SimpleQueue[memoryview | None] = SimpleQueue()
        self._read: SimpleQueue[_Read | _Barrier | _Failed | None] = SimpleQueue()
        self._ready: SimpleQueue[_Read | _Failed | None] = SimpleQueue()
        for _ in range(buffer_bytes // BLOCK_BYTES + BLOCKS_MORE):
            self._free.put(memoryview(bytearray(BLOCK_BYTES)))
        self._barrier = threading.Event()
        self._threads = [
            threading.Thread(target=self._reading, name="archive-read", daemon=True),
            threading.Thread(target=self._digesting, name="archive-digest", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def take(self, length_bytes: int) -> Iterator[Block]:
        """The next so many bytes. Raises: as sources do, in whoever takes."""
        while length_bytes:
            block, self._left = self._left or self._next(), None
            if len(block.memory) > length_bytes:
                self._left = kept(bytes(block.memory[length_bytes:]))
                block = Block(block.memory[:length_bytes], block.free)
            length_bytes -= len(block.memory)
            yield block

    def _next(self) -> Block:
        found = self._ready.get()
        if isinstance(found, _Failed):
            self._ready.put(found)  # whoever asks again gets the same
            raise found.error
        if found is None:
            raise ValueError("there is no more of the stream")
        return found.block

    def close(self) -> None:
        """End the threads. Blocks that were taken stay good. Twice is allowed."""
        self._closed.set()
        self._barrier.set()
        self._free.put(None)
        for thread in self._threads:
            thread.join()

    def _reading(self) -> None:
        try:
            self._read_all()
            self._read.put(None)
        except BaseException as error:  # noqa: BLE001  raised again by who takes
            self._read.put(_Failed(error))

    def _read_all(self) -> None:
        stream, at = self._stream, self._start
        while at < stream.length_bytes and not self._closed.is_set():
            end = stream.sums_offset if at < stream.sums_offset else stream.length_bytes
            if at == stream.sums_offset:
                self._read.put(_Barrier(self._barrier))
                self._barrier.wait()
                if self._closed.is_set():
                    return
            memory = self._free.get()
            if memory is None:
                return
            part = memory[: min(len(memory), end - at)]
            stream.fill(at, part)
            self._read.put(_Read(at, Block(part, lambda memory=memory: self._free.put(memory))))  # type: ignore[misc]
            at += len(part)

    def _digesting(self) -> None:
        try:
            self._digest_all()
        except BaseException as error:  # noqa: BLE001  raised again by who takes
            self._closed.set()
            self._barrier.set()
            self._ready.put(_Failed(error))

    def _digest_all(self) -> None:
        for at in self._stream.catch_up(self._start):
            if self._closed.is_set():
                return
            if self._caught_up is not None:
                self._caught_up(at)
        while (item := self._read.get()) is not None:
            if isinstance(item, _Barrier):
                item.reached.set()
                continue
            if isinstance(item, _Failed):
                self._ready.put(item)
                return
            if self._closed.is_set():
                return
            self._stream.take(item.offset_bytes, item.block.memory)
            self._ready.put(item)
        self._ready.put(None)

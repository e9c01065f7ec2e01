"""Comparisons that were asked for, in memory that outlives the process.

An inode number of diff/ is a hash and does not tell what was compared. The kernel goes on using it when the worker that
gave it was killed; the next one looks here.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator

import msgspec

from vsnapfs.tree.nodes import DiffPair

_LENGTH = struct.Struct("<I")


class Remembered:
    """DiffPairs, each once. When the memory is full the older half goes: names are looked up again far sooner.

    Shape of the memory: {u32 length, length bytes of JSON}*, then a length of 0. A length is written last, so that a
    writer that was killed leaves an entry or none. Threads: any.
    """

    def __init__(self, memory: memoryview) -> None:
        self._memory = memory
        self._lock = threading.Lock()
        self._end = 0
        self._pairs: dict[DiffPair, None] = {}
        self._load()

    def __iter__(self) -> Iterator[DiffPair]:
        """Newest first."""
        with self._lock:
            return iter(list(reversed(self._pairs)))

    def add(self, pair: DiffPair) -> None:
        with self._lock:
            if pair in self._pairs:
                return
            self._pairs[pair] = None
            if not self._append(pair):
                self._halve()

    def _load(self) -> None:
        while self._end + _LENGTH.size <= len(self._memory):
            (length,) = _LENGTH.unpack_from(self._memory, self._end)
            body = bytes(self._memory[self._end + _LENGTH.size :][:length])
            if length == 0 or len(body) < length:
                return
            self._pairs[msgspec.json.decode(body, type=DiffPair)] = None
            self._end += _LENGTH.size + length

    def _append(self, pair: DiffPair) -> bool:
        body = msgspec.json.encode(pair)
        start = self._end + _LENGTH.size
        end = start + len(body)
        if end + _LENGTH.size > len(self._memory):
            return False
        self._memory[start:end] = body
        _LENGTH.pack_into(self._memory, end, 0)
        _LENGTH.pack_into(self._memory, self._end, len(body))
        self._end = end
        return True

    def _halve(self) -> None:
        """A kill in here loses comparisons, which are then asked for again by their names."""
        self._pairs = dict.fromkeys(list(self._pairs)[len(self._pairs) // 2 :])
        self._end = 0
        _LENGTH.pack_into(self._memory, 0, 0)
        for pair in self._pairs:
            self._append(pair)

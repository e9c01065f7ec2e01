"""Files that Python serves: their bytes, and a bounded cache of them.

``stat`` must show the exact size, so the bytes are made at lookup; the cache keeps them for the ``open`` that follows.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import msgspec

CACHE_BYTES_MAX = 32 << 20


def json_text(value: Any) -> bytes:
    """A JSON object as people and ``jq`` read it: indented, with a newline at the end."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


class ContentCache:
    """Bytes by node, least recently used out first. What is larger than the bound stays until the next comes.

    Threads: any. Two that miss at once may both make the bytes; they are equal.
    """

    def __init__(self, bytes_max: int = CACHE_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, bytes] = OrderedDict()
        self._bytes = 0

    def get(self, key: Hashable, make: Callable[[], bytes]) -> bytes:
        """The bytes of ``key``, made without the lock if they are not kept."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = make()
        with self._lock:
            self._keep(key, made)
        return made

    def _keep(self, key: Hashable, made: bytes) -> None:
        if key not in self._kept:
            self._kept[key] = made
            self._bytes += len(made)
        while self._bytes > self._bytes_max and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= len(dropped)

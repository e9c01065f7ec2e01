"""How many bytes of data a volume holds: counted by walking maps, so kept.

A count belongs to a volume and its last write: it is true at every point until the next one. It can always be had
again, so what is kept is bounded, and losing it costs a walk, not a fact.

Threads: any.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

COUNTS_MAX = 16384


class Count(NamedTuple):
    """A row of the table volume_states."""

    volume: int
    last_write_seqno: int
    data_bytes: int


class Counts:
    """The counts used last."""

    def __init__(self, known: Iterable[Count]) -> None:
        self._lock = threading.Lock()
        self._known = OrderedDict(((volume, seqno), data_bytes) for volume, seqno, data_bytes in known)
        self._unsaved: list[Count] = []

    def get(self, volume: int, last_write_seqno: int) -> int | None:
        with self._lock:
            found = self._known.get((volume, last_write_seqno))
            if found is not None:
                self._known.move_to_end((volume, last_write_seqno))
            return found

    def keep(self, count: Count) -> None:
        with self._lock:
            self._known[count.volume, count.last_write_seqno] = count.data_bytes
            self._unsaved.append(count)
            if len(self._known) > COUNTS_MAX:
                self._known.popitem(last=False)
            if len(self._unsaved) > COUNTS_MAX:
                self._unsaved.clear()

    def take_unsaved(self) -> list[Count]:
        """Those kept since it was last called."""
        with self._lock:
            taken, self._unsaved = self._unsaved, []
            return taken

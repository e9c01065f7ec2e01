"""Events on their way into the catalog's table: in memory first, so that to tell one waits for no disk.

An event gets its number here, and stays here until it is in the table. What the table cannot take now it gets later; if
that does not come about for long, the oldest are dropped and counted.

Threads: any.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Any

from vsnapfs.core.events import Event, EventKind, event

RECENT_MAX = 1024
"""Kept in memory: whoever follows reads no table."""
UNSAVED_MAX = 1024


class EventLog:
    """The newest events, and those that the table does not have yet."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._recent: deque[Event] = deque(maxlen=RECENT_MAX)
        self._unsaved: deque[Event] = deque()
        self._last_id = 0
        self._dropped = 0

    @property
    def last_id(self) -> int:
        """Of the newest event; 0: there was none."""
        return self._last_id

    @property
    def dropped(self) -> int:
        """So many were lost, since the table could not take them."""
        return self._dropped

    def resume(self, last_id: int) -> None:
        """Go on behind the events of a table."""
        with self._lock:
            self._last_id = max(self._last_id, last_id)

    def add(self, time_ns: int, kind: EventKind, subject: str, detail: dict[str, Any]) -> Event:
        with self._lock:
            made = event(self._last_id + 1, time_ns, kind, subject, detail)
            self._last_id = made.id
            self._recent.append(made)
            self._unsaved.append(made)
            if len(self._unsaved) > UNSAVED_MAX:
                self._unsaved.popleft()
                self._dropped += 1
            return made

    def unsaved(self) -> list[Event]:
        with self._lock:
            return list(self._unsaved)

    def saved(self, until_id: int) -> None:
        """The table has those up to ``until_id``."""
        with self._lock:
            while self._unsaved and self._unsaved[0].id <= until_id:
                self._unsaved.popleft()

    def recent(self, after: int) -> tuple[int, list[Event]]:
        """Those with an id greater than ``after`` that are in memory. Also the id up to which others have to be asked for:
        all greater ones are in memory."""
        with self._lock:
            before = self._recent[0].id - 1 if self._recent else self._last_id
            return before, list(self._newer(after))

    def _newer(self, after: int) -> Iterator[Event]:
        first = self._recent[0].id if self._recent else 0
        return islice(self._recent, max(0, after + 1 - first), None)

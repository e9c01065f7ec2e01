"""Events: tell of what happened, and read what was told.

To tell one never fails and waits for nobody's disk for long: it is in memory at once, and in the table as soon as that can be
written. Who listens (the log of a server, its command for events, those that follow) is told in the same thread.

Source: vsnapfs/core/events.py for the kinds; docs/events.md.
"""

from __future__ import annotations

import time
from typing import Any

from vsnapfs.catalog.events import Wanted, events_in
from vsnapfs.core.events import Event, EventKind
from vsnapfs.repository.layout import CATALOG
from vsnapfs.repository.parts import Listener, Parts

SAVE_WAIT_S = 1.0
"""Whoever holds the catalog for longer than this writes the event when it saves, or the next event does."""


def tell(parts: Parts, kind: EventKind, subject: str = "", **detail: Any) -> None:
    """Something happened. A reader, which changes nothing, tells nothing."""
    if not parts.owner:
        return
    told = parts.events.add(time.time_ns(), kind, subject, detail)
    for listener in parts.listeners:
        listener(told)
    save(parts)


def save(parts: Parts) -> None:
    """Bring the table up to what was told, and the catalog up to what could not be written, if nobody holds it for long."""
    if parts.change.acquire(timeout=SAVE_WAIT_S):
        try:
            parts.catalog.save_left()
        finally:
            parts.change.release()


def listen(parts: Parts, listener: Listener) -> None:
    """Have ``listener`` told of everything from now on, and at once of what happened since the repository was opened."""
    _, before = parts.events.recent(0)
    parts.listeners.append(listener)
    for told in before:
        listener(told)


def read(parts: Parts, wanted: Wanted) -> list[Event]:
    """What was told. Raises: IntegrityError, StoreError: the table cannot be read."""
    if not parts.owner:
        told = events_in(parts.layout.fd, CATALOG, str(parts.uuid))
        return _cut(
            [found for found in told if wanted.after < found.id <= wanted.until and wanted.takes(found)], wanted
        )
    until, recent = parts.events.recent(wanted.after)
    older: list[Event] = []
    if wanted.after < until:
        with parts.change:
            older = parts.catalog.older_events(wanted._replace(until=until))
    return _cut([*older, *(found for found in recent if wanted.takes(found))], wanted)


def _cut(found: list[Event], wanted: Wanted) -> list[Event]:
    return found[-wanted.limit :] if wanted.newest else found[: wanted.limit]

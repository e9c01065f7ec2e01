"""A repository's part in restores: what they come from, and what they are called."""

from __future__ import annotations

import time
from typing import NamedTuple

from vsnapfs.core.model import Bookmark
from vsnapfs.core.times import stamp
from vsnapfs.repository import bookmarks, events
from vsnapfs.repository.bring import Source
from vsnapfs.repository.origins import Origin, PointOrigin
from vsnapfs.repository.parts import Parts, Report
from vsnapfs.repository.resolve import resolve
from vsnapfs.repository.restore import Brought, Into, Live, Shareable, Written, into_file, onto_live


class RestoredVolumes(NamedTuple):
    """What was done to live volumes."""

    source: str
    before: Bookmark
    after: Bookmark
    changed_bytes: int
    undo: list[str]


class Restores:
    """Of an open repository. Threads: any."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def into_file(
        self, name: str, source: Source, shareable: Shareable | None, into: Into, progress: Report = None
    ) -> Written:
        """Make an open file or device like ``source``, of volume ``name``: only what differs is written.

        Raises: NoSpaceError, BusyError, IntegrityError, StoreError.
        """
        return into_file(self._parts, name, source, shareable, into, progress)

    def live(self, volume: str, source: str, name: str | None = None, progress: Report = None) -> RestoredVolumes:
        """Bring a live volume to what it was, as one new set of writes, between the bookmarks ``before-NAME`` and ``after-NAME``. Nobody
        may write to it meanwhile.

        Raises: NotFoundError, UsageError, DegradedError: before anything is written. BusyError, IntegrityError.
        """
        origin = self._origin(source)
        called = name or f"restore-{stamp(time.time_ns())}"
        what = f"restore of {volume} to {origin.text}"
        live = Live(
            what=what,
            before=bookmarks.describe(f"before-{called}", "crash", "", f"before the {what}"),
            after=bookmarks.describe(f"after-{called}", "crash", "", f"after the {what}"),
        )
        return self._told(origin, [volume], live, progress)

    def _told(self, origin: Origin, names: list[str], live: Live, progress: Report) -> RestoredVolumes:
        done: Brought = onto_live(self._parts, origin, names, live, progress)
        undo = [f"vsnapfs restore {done.before.name} {name} --live" for name in names]
        for name in names:
            detail = {"source": origin.text, "before": done.before.name, "after": done.after.name}
            events.tell(self._parts, "restored", name, **detail, changed_bytes=done.written_bytes)
        return RestoredVolumes(origin.text, done.before, done.after, done.written_bytes, undo)

    def _origin(self, source: str) -> Origin:
        """Raises: NotFoundError, UsageError, PointGoneError, GapError."""
        return PointOrigin(self._parts, resolve(self._parts, source, time.time_ns()))

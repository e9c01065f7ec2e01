"""A repository's part in restores: what they come from, and what they are called."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from vsnapfs.catalog.bodies import BookmarkAdded
from vsnapfs.core.model import Bookmark
from vsnapfs.core.names import check_name
from vsnapfs.core.times import stamp
from vsnapfs.repository import bookmarks, events
from vsnapfs.repository.bring import Source
from vsnapfs.repository.origins import BranchOrigin, Origin, origin_of
from vsnapfs.repository.parts import Parts, Report
from vsnapfs.repository.restore import Brought, Into, Live, Shareable, Written, into_file, onto_live, undoing


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

    @contextmanager
    def source(self, text: str, volume: str) -> Iterator[Source]:
        """A volume at a point, or of a branch, for ``into_file``. Raises: NotFoundError, UsageError, PointGoneError, IntegrityError."""
        origin = origin_of(self._parts, text)
        with origin.source(origin.volume(volume)) as source:
            yield source

    def live(self, volume: str, source: str, name: str | None = None, progress: Report = None) -> RestoredVolumes:
        """Bring a live volume to what it was, as one new set of writes, between the bookmarks ``before-NAME`` and ``after-NAME``. Nobody
        may write to it meanwhile.

        Raises: NotFoundError, UsageError, DegradedError: before anything is written. BusyError: the source is a branch that is open, or
        the volume was written to. IntegrityError.
        """
        origin = origin_of(self._parts, source)
        called = f"restore-{stamp(time.time_ns())}" if name is None else check_name(name, "bookmark")
        what = f"restore of {volume} to {origin.text}"
        live = Live(
            what=what,
            before=_body(f"before-{called}", f"before the {what}"),
            after=_body(f"after-{called}", f"after the {what}"),
        )
        return self._told(origin, [volume], live, progress)

    def promote(
        self, branch: str, bookmark: str | None = None, before: str | None = None, progress: Report = None
    ) -> RestoredVolumes:
        """Bring all live volumes of a branch to what it holds, between the bookmarks ``before`` and ``bookmark`` (None: of its name).
        Nobody gets at the branch's files meanwhile.

        Raises: as ``live``.
        """
        origin = BranchOrigin(self._parts, branch)
        what = f"promotion of branch {branch}"
        live = Live(
            what=what,
            before=_body(f"before-promote-{stamp(time.time_ns())}" if before is None else before, f"before the {what}"),
            after=_body(branch if bookmark is None else bookmark, f"after the {what}"),
        )
        return self._told(origin, origin.volumes(), live, progress)

    def _told(self, origin: Origin, names: list[str], live: Live, progress: Report) -> RestoredVolumes:
        done: Brought = onto_live(self._parts, origin, names, live, progress)
        undo = undoing(done.before, names)
        for name in names:
            detail = {"source": origin.text, "before": done.before.name, "after": done.after.name}
            events.tell(self._parts, "restored", name, **detail, changed_bytes=done.written_bytes)
        return RestoredVolumes(origin.text, done.before, done.after, done.written_bytes, undo)


def _body(name: str, note: str) -> BookmarkAdded:
    return bookmarks.describe(name, "crash", "", note)

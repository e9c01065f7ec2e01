"""Events of bookmarks that are gone: what a compaction may leave out of the journal.

A bookmark that is removed has an event that adds it, some that hold and release it, and one that removes it. Who reads the
journal from its beginning must never find the first without the last. So what added it goes first, and what removed it when the
other is gone, or goes in the same step. A moment that was only marked (``pending``) is no bookmark: its event says nothing to
who reads the journal, but for one that carries a verdict on the point of a bookmark, which goes with that.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable

import msgspec

from vsnapfs.binding import Event, RecordKind
from vsnapfs.catalog.bodies import BookmarkAdded, BookmarkNamed, decode

OF_BOOKMARKS = (RecordKind.BOOKMARK_ADD, RecordKind.BOOKMARK_HOLD, RecordKind.BOOKMARK_REMOVE)


class Forgotten:
    """Of one reading of a journal's events. ``drop`` notes what a compaction has left out."""

    def __init__(self, events: Iterable[Event], stays: Callable[[str, int], bool]) -> None:
        """stays: does the bookmark of that name stay, that this record made?"""
        self._stays = stays
        self._added_by: dict[int, int] = {}
        """What added a bookmark, by what removed it; both are in the journal."""
        self._droppable: list[int] = []
        lives: dict[str, list[int]] = {}
        for event in events:
            if event.kind in OF_BOOKMARKS:
                self._take(event, lives)
        for name, life in lives.items():
            if not stays(name, life[0]):
                self._droppable += life
        self._droppable.sort()

    def within(self, first_seqno: int, last_seqno: int) -> list[int]:
        """Which events of these records may go when the records are rewritten together; ascending."""
        low, high = bisect_left(self._droppable, first_seqno), bisect_left(self._droppable, last_seqno + 1)
        return [
            seqno
            for seqno in self._droppable[low:high]
            if seqno not in self._added_by or self._added_by[seqno] >= first_seqno
        ]

    def drop(self, seqnos: Iterable[int]) -> None:
        """They are not in the journal any more."""
        gone = set(seqnos)
        self._droppable = [seqno for seqno in self._droppable if seqno not in gone]
        self._added_by = {removed: added for removed, added in self._added_by.items() if added not in gone}

    def _take(self, event: Event, lives: dict[str, list[int]]) -> None:
        """lives: events of those that stand by then, the one that added each first."""
        if event.kind == RecordKind.BOOKMARK_ADD:
            added = decode(event.body, BookmarkAdded, "bookmark", event.seqno)
            if added.pending is not True:
                lives[added.name] = [event.seqno]
            elif added.verdict is not msgspec.UNSET and added.name in lives:
                lives[added.name].append(event.seqno)
            else:
                self._droppable.append(event.seqno)
            return
        name = decode(event.body, BookmarkNamed, "bookmark", event.seqno).name
        life = lives.get(name)
        if life is None:
            self._droppable.append(event.seqno)  # of one whose addition is gone already
        elif event.kind == RecordKind.BOOKMARK_HOLD:
            life.append(event.seqno)
        else:
            self._droppable += [*lives.pop(name), event.seqno]
            self._added_by[event.seqno] = life[0]

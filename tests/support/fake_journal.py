"""A journal in memory, as far as the catalog asks: events in order, when they were, how far they are committed."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from vsnapfs.binding import Event, JournalFacts, RecordKind
from vsnapfs.catalog.bodies import BookmarkAdded, BookmarkNamed, PrimaryPath, VerdictGiven, VolumeAdded, encode
from vsnapfs.core.model import Federation

NS_PER_RECORD = 1_000_000


class FakeJournal:
    """Records are one millisecond apart from ``start_ns`` on. Only events are kept; ``skip`` stands for writes."""

    def __init__(self, start_ns: int = 1_800_000_000_000_000_000) -> None:
        self.last_seqno = 0
        self.committed_seqno = 0
        self._start_ns = start_ns
        self._events: list[Event] = []

    def facts(self) -> JournalFacts:
        nothing = JournalFacts._make([0] * len(JournalFacts._fields))
        return nothing._replace(first_seqno=1, last_seqno=self.last_seqno, committed_seqno=self.committed_seqno)

    def events(self, after: int = 0) -> Iterator[Event]:
        return iter([event for event in self._events if event.seqno > after])

    def time_of(self, seqno: int) -> int:
        return self._start_ns + seqno * NS_PER_RECORD

    def commit(self) -> None:
        self.committed_seqno = self.last_seqno

    def skip(self, records: int) -> None:
        """That many writes, committed."""
        self.last_seqno += records
        self.commit()

    def event(self, kind: RecordKind, *, volume: int = 0, a: int = 0, b: int = 0, body: bytes = b"") -> int:
        """Append any event, not committed yet. Returns its seqno."""
        self.last_seqno += 1
        named = a or self.last_seqno if kind == RecordKind.BOOKMARK_ADD else a
        self._events.append(
            Event(self.last_seqno, self.time_of(self.last_seqno), kind, volume, named, b, body),
        )
        return self.last_seqno

    def add_volume(self, volume: int, name: str, size_bytes: int = 4096, path: str | None = None) -> int:
        body = VolumeAdded(name, "repository" if path is None else PrimaryPath(path), path is not None)
        return self._committed(RecordKind.VOLUME_ADD, volume=volume, a=512, b=size_bytes, body=encode(body))

    def resize_volume(self, volume: int, size_bytes: int) -> int:
        return self._committed(RecordKind.VOLUME_RESIZE, volume=volume, b=size_bytes)

    def remove_volume(self, volume: int) -> int:
        return self._committed(RecordKind.VOLUME_REMOVE, volume=volume)

    def add_bookmark(self, name: str, seqno: int = 0, federation: Federation | None = None) -> int:
        body = BookmarkAdded(name, federation=federation or msgspec.UNSET)
        return self._committed(RecordKind.BOOKMARK_ADD, a=seqno, body=encode(body))

    def mark(self, name: str) -> int:
        """A moment that a bookmark may name later."""
        return self._committed(RecordKind.BOOKMARK_ADD, body=encode(BookmarkAdded(name, pending=True)))

    def give_verdict(self, name: str, seqno: int, good: bool, profile: str = "") -> int:
        """On the point of a bookmark."""
        body = BookmarkAdded(name, pending=True, verdict=VerdictGiven(good, profile, 1500, ("db0",), ("mounted",)))
        return self._committed(RecordKind.BOOKMARK_ADD, a=seqno, body=encode(body))

    def remove_bookmark(self, name: str) -> int:
        return self._committed(RecordKind.BOOKMARK_REMOVE, body=encode(BookmarkNamed(name)))

    def hold_bookmark(self, name: str, held: bool, note: str = "") -> int:
        return self._committed(RecordKind.BOOKMARK_HOLD, a=int(held), body=encode(BookmarkNamed(name, note)))

    def _committed(self, kind: RecordKind, *, volume: int = 0, a: int = 0, b: int = 0, body: bytes = b"") -> int:
        seqno = self.event(kind, volume=volume, a=a, b=b, body=body)
        self.commit()
        return seqno

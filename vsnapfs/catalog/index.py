"""The names of a repository in memory: volumes and bookmarks after the events folded in so far.

The fold is the only place that knows what an event means for a name. The tables on disk are a copy of what stands here.

Threads: none; the owner locks. Memory: about 1 KiB a bookmark.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec
from sortedcontainers import SortedKeyList

from vsnapfs.binding import Event, RecordKind
from vsnapfs.catalog.bodies import BookmarkAdded, BookmarkNamed, VerdictGiven, VolumeAdded, decode, gap_reason
from vsnapfs.core.errors import IntegrityError, PointGoneError
from vsnapfs.core.model import Bookmark, PrimaryKind, Verdict
from vsnapfs.core.times import iso

VERDICTS_MAX = 16
"""Of a bookmark; the oldest go."""


class VolumeEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What the events say of a volume; a row of the table of that name, its columns in order."""

    id: int
    name: str
    size_bytes: int
    block_size_bytes: int
    primary_kind: PrimaryKind
    primary_path: str | None
    base: bool
    added_seqno: int
    removed_seqno: int | None = None

    def stands_at(self, seqno: int) -> bool:
        """True if the volume had been added, and not yet removed, after record ``seqno``."""
        return self.added_seqno <= seqno and (self.removed_seqno is None or seqno < self.removed_seqno)


class GapEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A time of which the journal does not know the writes; a row of the table of that name, its columns in order."""

    begin_seqno: int
    since_seqno: int
    since_ns: int
    reason: str
    end_seqno: int | None = None
    end_ns: int | None = None

    def holds_seqno(self, seqno: int) -> bool:
        return self.since_seqno < seqno and (self.end_seqno is None or seqno < self.end_seqno)

    def holds_time(self, time_ns: int) -> bool:
        return self.since_ns <= time_ns and (self.end_ns is None or time_ns < self.end_ns)


class Changes:
    """What a fold touched: ids of volumes, names of bookmarks, whether they still stand or not, and gaps by their record."""

    def __init__(self) -> None:
        self.volumes: set[int] = set()
        self.bookmarks: set[str] = set()
        self.gaps: set[int] = set()


class Index:
    """Volumes by id and name, bookmarks by name and by point.

    ``generation`` changes whenever anything in here does, so that who shows names may keep what it made of them.
    """

    def __init__(self) -> None:
        self.generation = 0
        self._volumes: dict[int, VolumeEntry] = {}
        self._ids: dict[str, list[int]] = {}
        self._bookmarks: dict[str, Bookmark] = {}
        self._by_point: SortedKeyList[Bookmark, tuple[int, int]] = SortedKeyList(key=_point_order)
        self._listed: tuple[Bookmark, ...] | None = ()
        self._gaps: list[GapEntry] = []

    def load(self, volumes: Iterable[VolumeEntry], bookmarks: Iterable[Bookmark], gaps: Iterable[GapEntry]) -> None:
        """Take in what was folded before, at once; the index is empty."""
        for entry in volumes:
            self._put_volume(entry)
        self._bookmarks = {bookmark.name: bookmark for bookmark in bookmarks}
        self._by_point.update(self._bookmarks.values())
        self._gaps = list(gaps)
        self._touch()

    def clear(self) -> None:
        """Forget everything, to fold the journal again from its beginning."""
        self._volumes.clear()
        self._ids.clear()
        self._bookmarks.clear()
        self._by_point.clear()
        self._gaps.clear()
        self._touch()

    def apply(self, event: Event, time_of: Callable[[int], int], changes: Changes) -> None:
        """Fold one event in. time_of: time in ns of a record. Raises: IntegrityError: a body that makes no sense."""
        match event.kind:
            case RecordKind.VOLUME_ADD:
                changes.volumes.add(event.volume)
                self._add_volume(event)
            case RecordKind.VOLUME_RESIZE:
                changes.volumes.add(event.volume)
                self._change_volume(event, size_bytes=event.b)
            case RecordKind.VOLUME_REMOVE:
                changes.volumes.add(event.volume)
                self._change_volume(event, removed_seqno=event.seqno)
            case RecordKind.BOOKMARK_ADD:
                changes.bookmarks.update(self._add_bookmark(event, time_of))
            case RecordKind.BOOKMARK_REMOVE:
                changes.bookmarks.add(self._remove_bookmark(event))
            case RecordKind.BOOKMARK_HOLD:
                changes.bookmarks.add(self._hold_bookmark(event))
            case RecordKind.GAP_BEGIN:
                changes.gaps.add(self._begin_gap(event))
            case RecordKind.GAP_END:
                changes.gaps.update(self._end_gap(event))
        self._touch()

    def volumes(self) -> list[VolumeEntry]:
        """Every volume ever added, by id."""
        return list(self._volumes.values())

    def volume(self, name: str, seqno: int | None = None) -> VolumeEntry | None:
        """Who bears the name, now or after record ``seqno``; a name may pass on to another volume after a removal."""
        for volume in reversed(self._ids.get(name, [])):
            entry = self._volumes[volume]
            if entry.removed_seqno is None if seqno is None else entry.stands_at(seqno):
                return entry
        return None

    def volume_by_id(self, volume: int) -> VolumeEntry | None:
        return self._volumes.get(volume)

    def next_volume_id(self) -> int:
        """The id that the journal gives to the next volume."""
        return max(self._volumes, default=0) + 1

    def bookmark(self, name: str) -> Bookmark | None:
        return self._bookmarks.get(name)

    def bookmark_names(self) -> list[str]:
        return list(self._bookmarks)

    def bookmarks(self) -> tuple[Bookmark, ...]:
        """By seqno, then by the record that made them; the same tuple as long as no name changes."""
        if self._listed is None:
            self._listed = tuple(self._by_point)
        return self._listed

    def bookmarks_from(self, seqno: int) -> list[Bookmark]:
        """Those that name ``seqno`` or a later point, in order."""
        return list(self._by_point.irange_key(min_key=(seqno, 0)))

    def gaps(self) -> list[GapEntry]:
        """In the order of time."""
        return list(self._gaps)

    def latest(self) -> Bookmark | None:
        """The bookmark of the newest point; of several on it the one made last."""
        return self._by_point[-1] if self._by_point else None

    def _touch(self) -> None:
        self.generation += 1
        self._listed = None

    def _put_volume(self, entry: VolumeEntry) -> None:
        if entry.id not in self._volumes:
            self._ids.setdefault(entry.name, []).append(entry.id)
        self._volumes[entry.id] = entry

    def _put_bookmark(self, bookmark: Bookmark) -> None:
        self._drop_bookmark(bookmark.name)
        self._bookmarks[bookmark.name] = bookmark
        self._by_point.add(bookmark)

    def _drop_bookmark(self, name: str) -> None:
        old = self._bookmarks.pop(name, None)
        if old is not None:
            self._by_point.remove(old)

    def _add_volume(self, event: Event) -> None:
        body = decode(event.body, VolumeAdded, "volume", event.seqno)
        if self.volume(body.name) is not None:
            raise IntegrityError(
                f"event @{event.seqno} adds a second volume of the name {body.name!r}", seqno=event.seqno
            )
        self._put_volume(
            VolumeEntry(
                id=event.volume,
                name=body.name,
                size_bytes=event.b,
                block_size_bytes=event.a,
                primary_kind=body.kind,
                primary_path=body.path,
                base=body.base,
                added_seqno=event.seqno,
            )
        )

    def _change_volume(self, event: Event, **fields: int) -> None:
        entry = self._volumes.get(event.volume)
        if entry is None:
            raise IntegrityError(
                f"event @{event.seqno} changes volume {event.volume}, which is unknown", seqno=event.seqno
            )
        self._put_volume(msgspec.structs.replace(entry, **fields))

    def _add_bookmark(self, event: Event, time_of: Callable[[int], int]) -> set[str]:
        body = decode(event.body, BookmarkAdded, "bookmark", event.seqno)
        if body.pending is True:
            return set() if body.verdict is msgspec.UNSET else self._give_verdict(event, body.name, body.verdict)
        time_ns = event.time_ns if event.a == event.seqno else _time_of_point(event, time_of)
        self._put_bookmark(
            Bookmark(
                name=body.name,
                seqno=event.a,
                time=iso(time_ns),
                time_ns=time_ns,
                consistency=body.consistency,
                application=body.application,
                note=body.note,
                created_seqno=event.seqno,
                created=iso(event.time_ns),
                created_ns=event.time_ns,
                federation=None if body.federation is msgspec.UNSET else body.federation,
                profile="" if body.profile is msgspec.UNSET else body.profile,
                schedule="" if body.schedule is msgspec.UNSET else body.schedule,
                members=() if body.members is msgspec.UNSET else body.members,
            )
        )
        return {body.name}

    def _give_verdict(self, event: Event, name: str, given: VerdictGiven) -> set[str]:
        """Of a bookmark that stands at the point it speaks of; of any other it says nothing."""
        old = self._bookmarks.get(name)
        if old is None or old.seqno != event.a:
            return set()
        verdict = Verdict(
            profile=given.profile,
            good=given.good,
            time=iso(event.time_ns),
            took_s=given.took_ms / 1000,
            volumes=given.volumes,
            proved=given.proved,
            reason=given.reason,
            remarks=given.remarks,
        )
        others = [each for each in old.verdicts if each.profile != given.profile]
        kept = (*others, verdict)[-VERDICTS_MAX:]
        self._put_bookmark(msgspec.structs.replace(old, verdicts=kept))
        return {name}

    def _remove_bookmark(self, event: Event) -> str:
        name = decode(event.body, BookmarkNamed, "bookmark", event.seqno).name
        self._drop_bookmark(name)
        return name

    def _hold_bookmark(self, event: Event) -> str:
        body = decode(event.body, BookmarkNamed, "bookmark", event.seqno)
        old = self._bookmarks.get(body.name)
        if old is not None:
            held = event.a == 1
            until_ns = body.until if held else None
            new = msgspec.structs.replace(
                old,
                held=held,
                hold_note=body.note if held else "",
                hold_until=None if until_ns is None else iso(until_ns),
                hold_until_ns=until_ns,
            )
            self._put_bookmark(new)
        return body.name

    def _begin_gap(self, event: Event) -> int:
        """One that is open still goes on: it was noted, and the journal failed once more before it was closed."""
        entry = GapEntry(begin_seqno=event.seqno, since_seqno=event.b, since_ns=event.a, reason=gap_reason(event.body))
        if self._gaps and self._gaps[-1].end_seqno is None:
            return self._gaps[-1].begin_seqno
        self._gaps.append(entry)
        return entry.begin_seqno

    def _end_gap(self, event: Event) -> list[int]:
        if not self._gaps or self._gaps[-1].end_seqno is not None:
            return []
        self._gaps[-1] = msgspec.structs.replace(self._gaps[-1], end_seqno=event.seqno, end_ns=event.time_ns)
        return [self._gaps[-1].begin_seqno]


def _time_of_point(event: Event, time_of: Callable[[int], int]) -> int:
    """When the past instant was that a bookmark was given to. It is gone where a later event removes the bookmark again."""
    try:
        return time_of(event.a)
    except PointGoneError:
        return event.time_ns


def _point_order(bookmark: Bookmark) -> tuple[int, int]:
    return bookmark.seqno, bookmark.created_seqno

"""The catalog: the names of a repository, in memory, with a copy in SQLite that spares the next start most of the
journal.

It follows the journal, never leads it: an event is folded in after its commit, and nothing is in here that a fold of
the whole journal would not give. So a file that is damaged, foreign or newer is kept as ``*.bad`` and made again; and
when it cannot be written, work goes on without it, since the names are in the journal and in memory: ``problem`` says
so. Only a file that is ahead of the journal is believed: then the journal has lost its end.

Events do not follow from the journal: those of a file that is set aside go over into the next, as far as they can be read.

Threads: none; the owner locks. ``events`` has a lock of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from vsnapfs.binding import Event, JournalFacts
from vsnapfs.catalog.counts import Counts
from vsnapfs.catalog.event_log import EventLog
from vsnapfs.catalog.events import Wanted, events_in
from vsnapfs.catalog.file import Place
from vsnapfs.catalog.index import Changes, Index
from vsnapfs.catalog.store import CatalogStore, Content, Mark
from vsnapfs.core.errors import IntegrityError, JournalBehindError, NoSpaceError, StoreError, VsnapfsError
from vsnapfs.core.events import Event as ToldEvent
from vsnapfs.core.model import Bookmark

SetAside = Callable[[], Place | None]
"""Renames the file and what belongs to it. Returns: where it is now; None: there was none."""


class EventSource(Protocol):
    """What the catalog asks of a journal."""

    def facts(self) -> JournalFacts: ...
    def events(self, after: int = 0) -> Iterator[Event]: ...
    def time_of(self, seqno: int) -> int: ...


class Catalog:
    """Names in ``index``, counts of data in ``counts``, what happened in ``events``.

    ``fold`` changes memory and ``save`` the file, so that who reads names has to wait for the former only.
    """

    def __init__(
        self,
        store: CatalogStore,
        content: Content,
        events: EventLog,
        no_file: str | None,
        *,
        owner: bool,
        generation: int,
    ) -> None:
        """generation: of the journal; content that goes with another is not believed."""
        self.index = Index()
        self.index.load(content.volumes, content.bookmarks, content.gaps)
        self.counts = Counts(content.counts)
        self.events = events
        self.events.resume(store.last_event_id())
        self._no_file = no_file
        self._not_written: str | None = None
        self._events_not_written: str | None = None
        self._store = store
        self._mark = content.mark
        self._changes = Changes()
        """What the file does not have yet."""
        self._owner = owner
        if content.mark.generation != generation:
            self._begin_anew()

    @classmethod
    def open(
        cls,
        place: Place | None,
        repository: str,
        journal: EventSource,
        set_aside: SetAside,
        events: EventLog | None = None,
        *,
        anew: bool = False,
    ) -> Catalog:
        """The catalog at ``place`` (None: in memory, for readers), caught up with the journal.

        Args: repository: its uuid. set_aside: for the file at ``place``, called when it is of no use. events: of the
        catalog before, in this process. anew: whatever the file is like, make another.
        """
        log = events or EventLog()
        owner = place is not None
        try:
            catalog = cls._open(place, repository, journal, set_aside, log, anew)
        except (StoreError, NoSpaceError) as error:
            catalog = cls._load(CatalogStore(None, repository), journal, log, owner, no_file=str(error))
        if catalog.fold(journal):
            catalog.save()
        return catalog

    @classmethod
    def _open(
        cls,
        place: Place | None,
        repository: str,
        journal: EventSource,
        set_aside: SetAside,
        log: EventLog,
        anew: bool,
    ) -> Catalog:
        owner = place is not None
        if not anew or place is None:
            try:
                return cls._load(CatalogStore(place, repository), journal, log, owner)
            except IntegrityError as error:
                if place is None or isinstance(error, JournalBehindError):
                    raise
                why = str(error)
        else:
            why = "it was asked for"
        kept = set_aside()
        rescued = [] if kept is None else events_in(kept.directory_fd, kept.path.name, repository)
        store = CatalogStore(place, repository)
        store.keep_events(rescued)
        catalog = cls._load(store, journal, log, owner)
        detail = {"why": why, "kept_as": None if kept is None else kept.path.name, "events": len(rescued)}
        log.add(time.time_ns(), "catalog_remade", "", detail)
        return catalog

    @classmethod
    def _load(
        cls, store: CatalogStore, journal: EventSource, log: EventLog, owner: bool, no_file: str | None = None
    ) -> Catalog:
        try:
            content = store.load()
            _check_mark(content.mark, journal)
            return cls(store, content, log, no_file, owner=owner, generation=journal.facts().generation)
        except VsnapfsError as error:
            store.close()
            if isinstance(error, JournalBehindError):
                raise
            raise IntegrityError(f"the catalog is of no use: {error}") from error

    @property
    def problem(self) -> str | None:
        """Why the file on disk is behind; None: it is not."""
        return self._no_file or self._not_written or self._events_not_written

    def close(self) -> None:
        self.save()
        self._store.close()

    def fold(self, journal: EventSource) -> bool:
        """Take the events committed since into the index. True: there were any.

        Raises: IntegrityError: an event that makes no sense.
        """
        facts = journal.facts()
        until = facts.committed_seqno
        compacted = facts.generation != self._mark.generation
        if compacted and not self._owner:
            self._begin_anew()  # what removed a name may have been dropped unread; an owner has read all before it drops any
        if until <= self._mark.applied_seqno and not compacted:
            return False
        if compacted:
            self._mark = self._with_last_event(journal)._replace(generation=facts.generation)
        before = self._mark
        for event in journal.events(before.event_seqno):
            if event.seqno > until:
                break
            self.index.apply(event, journal.time_of, self._changes)
            self._mark = before._replace(
                applied_seqno=event.seqno, event_seqno=event.seqno, event_time_ns=event.time_ns
            )
        found = compacted or self._mark is not before
        self._mark = self._mark._replace(applied_seqno=until)
        return found

    def _begin_anew(self) -> None:
        """Forget what was folded in; what of it the journal does not give again leaves the file too."""
        self._changes.volumes |= {entry.id for entry in self.index.volumes()}
        self._changes.bookmarks |= set(self.index.bookmark_names())
        self._changes.gaps |= {gap.begin_seqno for gap in self.index.gaps()}
        self.index.clear()
        self._mark = Mark()

    def _with_last_event(self, journal: EventSource) -> Mark:
        """The mark, of an event that a compaction has left."""
        if self._mark.event_seqno == 0 or _is_there(self._mark, journal):
            return self._mark
        left = [event for event in journal.events() if event.seqno <= self._mark.applied_seqno]
        return self._mark._replace(event_seqno=left[-1].seqno, event_time_ns=left[-1].time_ns) if left else self._mark

    def save(self) -> None:
        """Bring the file up to memory. What cannot be written is tried again the next time, and is a ``problem``."""
        volumes = [entry for volume in self._changes.volumes if (entry := self.index.volume_by_id(volume))]
        bookmarks = [bookmark for name in self._changes.bookmarks if (bookmark := self.index.bookmark(name))]
        dropped = self._changes.bookmarks - {bookmark.name for bookmark in bookmarks}
        gaps = [gap for gap in self.index.gaps() if gap.begin_seqno in self._changes.gaps]
        try:
            self._store.save(self._mark, volumes, bookmarks, dropped, gaps)
            self._store.keep_counts(self.counts.take_unsaved())
        except (StoreError, NoSpaceError, IntegrityError) as error:
            self._not_written = str(error)
        else:
            self._changes = Changes()
            self._not_written = None
        self.save_events()

    def save_events(self) -> None:
        """Bring the table of events up to memory. What cannot be written is tried again the next time, and is a ``problem``."""
        unsaved = self.events.unsaved()
        if not unsaved:
            return
        try:
            self._store.keep_events(unsaved)
        except (StoreError, NoSpaceError, IntegrityError) as error:
            self._events_not_written = f"{error}; {self.events.dropped} events are lost"
        else:
            self.events.saved(unsaved[-1].id)
            self._events_not_written = None

    def save_left(self) -> None:
        """Bring up to memory what could not be written when it was to be: that needs no change that calls for it."""
        if self._not_written is None:
            self.save_events()
        else:
            self.save()

    def older_events(self, wanted: Wanted) -> list[ToldEvent]:
        """Of the table. Raises: IntegrityError, StoreError."""
        return self._store.events(wanted)

    def faults(self, journal: EventSource) -> list[str]:
        """What is wrong with the file: by SQLite's own check, or because the journal tells otherwise."""
        found = self._store.faults()
        if found:
            return found
        try:
            content = self._store.load()
            _check_mark(content.mark, journal)
        except VsnapfsError as error:
            return [str(error)]
        fresh = Index()
        for event in journal.events():
            if event.seqno > content.mark.event_seqno:
                break
            fresh.apply(event, journal.time_of, Changes())
        differing = []
        if content.volumes != fresh.volumes():
            differing.append("its volumes are not those of the journal")
        if _by_name(content.bookmarks) != _by_name(fresh.bookmarks()):
            differing.append("its bookmarks are not those of the journal")
        if content.gaps != fresh.gaps():
            differing.append("its gaps are not those of the journal")
        return differing


def _by_name(bookmarks: Iterable[Bookmark]) -> dict[str, Bookmark]:
    return {bookmark.name: bookmark for bookmark in bookmarks}


def check_end(applied_seqno: int, journal: EventSource) -> None:
    """Refuse a journal that ends before what a catalog has seen of it."""
    committed_seqno = journal.facts().committed_seqno
    if applied_seqno > committed_seqno:
        raise behind(applied_seqno, committed_seqno)


def behind(applied_seqno: int, committed_seqno: int) -> JournalBehindError:
    """The error for such a journal."""
    return JournalBehindError(
        f"the catalog knows of record @{applied_seqno}, but the journal ends with @{committed_seqno}: its newest "
        f"segment is missing, damaged, or was replaced by an older copy",
        hint="`vsnapfs check` says what that costs; put it back, or move catalog.db away to go on without those records",
    )


def _check_mark(mark: Mark, journal: EventSource) -> None:
    """Refuse tables that go further than the journal, or that follow from another one.

    Both happen when a repository is put back from a copy in parts. The event itself is asked for: a compacted journal knows the
    times of its points alone, and of events.
    """
    check_end(mark.applied_seqno, journal)
    if mark.event_seqno and mark.generation == journal.facts().generation and not _is_there(mark, journal):
        raise IntegrityError(f"its record @{mark.event_seqno} is not the journal's")


def _is_there(mark: Mark, journal: EventSource) -> bool:
    event = next(journal.events(mark.event_seqno - 1), None)
    return event is not None and (event.seqno, event.time_ns) == (mark.event_seqno, mark.event_time_ns)

"""What an open repository consists of.

The modules beside this one each do one thing with it; ``repository.Repository`` owns it.

Locks, in the order they are taken:

* work: what adds, removes or resizes volumes, or reads images (import, resync), one at a time; held for hours
* branches: who adds or removes branches, and the open ones (branch_table.py says more); held for a few syncs
* beside: what makes room in the background, one at a time; held for hours, and never with work
* change: events, the catalog's file, the table of primaries; held for a commit at most
* names: the index in memory; never held over storage I/O, so that who looks something up waits for nobody's disk

Views are immutable and are read without any.
"""

from __future__ import annotations

import threading
import uuid as uuids
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import NamedTuple

from vsnapfs.binding import Journal, RecordKind, Store, VolumeState
from vsnapfs.binding.base_move import end_work
from vsnapfs.catalog.bodies import BookmarkAdded, BookmarkNamed, VolumeAdded, encode
from vsnapfs.catalog.catalog import Catalog
from vsnapfs.catalog.event_log import EventLog
from vsnapfs.catalog.file import Place
from vsnapfs.catalog.index import Index, VolumeEntry
from vsnapfs.core.errors import BusyError, NotFoundError, ReadOnlyError
from vsnapfs.core.events import Event
from vsnapfs.core.keeping import Compaction
from vsnapfs.core.model import Point, Quiesce
from vsnapfs.core.names import near
from vsnapfs.core.state import Progress
from vsnapfs.core.times import iso
from vsnapfs.repository.branch_table import BranchTable
from vsnapfs.repository.clock import Clock
from vsnapfs.repository.layout import CATALOG, Layout
from vsnapfs.repository.reservations import Reservations
from vsnapfs.repository.settings import Settings

STATES_KEPT = 16384
WORK_WAIT_S = 5.0
CATALOG_LOGS = ("-wal", "-journal")


class Rewriting(NamedTuple):
    """The journal is being rewritten: before ``until_seqno`` perhaps only these ``points`` can be opened afterwards."""

    until_seqno: int
    points: frozenset[int]


Report = Callable[[Progress], None] | None
"""Is told now and then where a long piece of work stands. An exception out of it ends the work."""
Listener = Callable[[Event], None]
"""Is told of each event, in the thread that it happened in: does not wait, and raises nothing."""


class Parts:
    """Constructed by ``Repository.open`` alone, which also ends each part."""

    def __init__(
        self,
        layout: Layout,
        uuid: uuids.UUID,
        settings: Settings,
        store: Store,
        journal: Journal,
        owner: bool,
        primaries: dict[int, int],
    ) -> None:
        self.layout = layout
        self.uuid = uuid
        self.settings = settings
        self.store = store
        self.journal = journal
        self.clock = Clock()
        self.owner = owner
        self.change = threading.RLock()
        self.names = threading.RLock()
        self._work = threading.RLock()
        self._beside = threading.Lock()
        self._working: str | None = None
        self._ending = threading.Event()
        self.primaries = primaries
        """Descriptors of the primaries in use, by volume id."""
        self.problems: dict[int, str] = {}
        """Why a volume is not as it should be, by id."""
        self.state_at: Callable[[int, int], VolumeState | None] = lru_cache(STATES_KEPT)(journal.volume_at)
        """State of a volume id after a seqno, without data_bytes; history does not change, so it is asked once."""
        self.events = EventLog()
        self.listeners: list[Listener] = []
        self.reservations = Reservations()
        """Names that bookmarks over several repositories may bear; change."""
        self.branches = BranchTable()
        self.quiesce: Quiesce | None = None
        """The one that is under way; change."""
        self.catalog = self._open_catalog()
        self._generations_before = 0
        self.compaction = Compaction()
        """How the last run was, or how far the one of now is. Written by whoever is ``beside``."""
        self.rewriting: Rewriting | None = None
        """By the lock ``change``."""

    @property
    def generation(self) -> int:
        """Changes whenever a name does, also by making the catalog again."""
        return self._generations_before + self.index.generation + self.branches.generation

    @property
    def catalog_place(self) -> Place:
        return Place(self.layout.fd, self.layout.absolute(CATALOG))

    @property
    def index(self) -> Index:
        return self.catalog.index

    def require_owner(self) -> None:
        if not self.owner:
            raise ReadOnlyError(f"{self.layout.path} is open for reading only")

    def record(
        self,
        kind: RecordKind,
        body: VolumeAdded | BookmarkAdded | BookmarkNamed | None,
        *,
        volume: int = 0,
        a: int = 0,
        b: int = 0,
    ) -> int:
        """Append an event, commit it, take it into the catalog: when this returns it survives any crash.

        Returns its seqno.
        """
        with self.change:
            seqno, _ = self.journal.event(kind, volume=volume, a=a, b=b, body=b"" if body is None else encode(body))
            self.journal.commit()
            self.catch_up()
        return seqno

    def record_all(self, kind: RecordKind, events: Iterable[tuple[BookmarkNamed, int]]) -> None:
        """The same of many events of bookmarks, in one commit. Of each: the body, and ``a``."""
        with self.change:
            for body, a in events:
                self.journal.event(kind, a=a, body=encode(body))
            self.journal.commit()
            self.catch_up()

    def catch_up(self) -> None:
        """Take what was committed since into the catalog."""
        with self.change:
            with self.names:
                found = self.catalog.fold(self.journal)
            if found:
                self.catalog.save()

    @contextmanager
    def working(self, what: str) -> Iterator[None]:
        """Be the one at work. what: for the others, such as ``import of db0``.

        Raises: BusyError: other work goes on for longer than a moment, or the repository is being closed.
        """
        if not self._work.acquire(timeout=WORK_WAIT_S):
            raise BusyError(f"{self._working} is running", hint="wait until it has ended")
        before, self._working = self._working, what
        try:
            self._refuse_when_ending()
            yield
        finally:
            self._working = before
            self._work.release()

    @contextmanager
    def beside(self, what: str) -> Iterator[None]:
        """Be the one that makes room in the background, beside other work. what: for the others.

        Raises: BusyError: it is being made already, or the repository is being closed.
        """
        if not self._beside.acquire(blocking=False):
            raise BusyError(f"{what} has to wait: room is being made already", hint="wait until that has ended")
        try:
            self._refuse_when_ending()
            yield
        finally:
            self._beside.release()

    def tell(self, report: Report, progress: Progress) -> None:
        """Where long work stands; also where it ends when the repository is being closed. Raises: BusyError."""
        self._refuse_when_ending()
        if report is not None:
            report(progress)

    def end_work(self) -> None:
        """Have whoever is at work give up, and let nobody begin."""
        self._ending.set()
        end_work(self.journal)
        with self._work, self._beside:
            return

    def _refuse_when_ending(self) -> None:
        if self._ending.is_set():
            raise BusyError(f"{self.layout.path} is being closed", hint="do it again with the next server")

    def entry(self, name: str, seqno: int | None = None) -> VolumeEntry:
        """The volume of that name, now or at a seqno. Raises: NotFoundError with names that look like it."""
        with self.names:
            entry = self.index.volume(name, seqno)
        if entry is not None:
            return entry
        names = [other.name for other in self.entries(seqno)]
        where = "" if seqno is None else f" at @{seqno}"
        raise NotFoundError(f"there is no volume {name!r}{where}", near=near(name, names))

    def entries(self, seqno: int | None = None) -> list[VolumeEntry]:
        """The volumes that stand now or stood at a seqno, by name."""
        with self.names:
            found = [
                e for e in self.index.volumes() if (e.removed_seqno is None if seqno is None else e.stands_at(seqno))
            ]
        return sorted(found, key=lambda entry: entry.name)

    def volume_ids(self) -> list[int]:
        """Of every volume there ever was."""
        with self.names:
            return [entry.id for entry in self.index.volumes()]

    def point(self, seqno: int, bookmark: str | None = None) -> Point:
        """The point after record ``seqno``. Raises: PointGoneError: outside the window."""
        time_ns = self.journal.time_of(seqno)
        return Point(seqno=seqno, time=iso(time_ns), time_ns=time_ns, bookmark=bookmark)

    def close_catalog(self) -> None:
        self.catalog.close()

    def _open_catalog(self, *, anew: bool = False) -> Catalog:
        place = self.catalog_place if self.owner else None
        return Catalog.open(place, str(self.uuid), self.journal, self._set_catalog_aside, self.events, anew=anew)

    def _set_catalog_aside(self) -> Place | None:
        """Keep the file under another name, and SQLite's log of it under the name that belongs to that."""
        kept = self.layout.set_aside(CATALOG)
        for suffix in CATALOG_LOGS:
            if kept is not None and self.layout.exists(CATALOG + suffix):
                self.layout.rename(CATALOG + suffix, kept + suffix)
        return None if kept is None else Place(self.layout.fd, self.layout.absolute(kept))

    def remake_catalog(self) -> None:
        """Owner: put a catalog made from the journal in place of the one there is."""
        with self.change:
            self.catalog.close()
            made = self._open_catalog(anew=True)
            with self.names:
                self._generations_before = self.generation + 1
                self.catalog = made

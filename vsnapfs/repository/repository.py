"""A repository, open: the one door to its volumes, bookmarks and points.

Every call may block on storage, so a program with an event loop makes it in a worker thread. Any thread may call
anything but ``close``; changes wait for each other. Errors are those of ``core.errors``.
"""

from __future__ import annotations

import os
import time
import uuid as uuids
from collections.abc import Callable, Collection, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from vsnapfs.binding import Closing, Journal, Keep, Store, View, VolumeFile
from vsnapfs.catalog.bodies import VerdictGiven
from vsnapfs.catalog.catalog import behind
from vsnapfs.catalog.events import EVENTS_MAX
from vsnapfs.catalog.events import Wanted as WantedEvents
from vsnapfs.catalog.file import Place
from vsnapfs.catalog.store import applied_in
from vsnapfs.core.branch import Branch, BranchPlace
from vsnapfs.core.errors import IntegrityError, JournalBehindError, UsageError, with_hint
from vsnapfs.core.events import Event, EventKind
from vsnapfs.core.findings import Anchor, BranchFindings, Check, Damage
from vsnapfs.core.keeping import Plan, Prune, Space
from vsnapfs.core.model import Bookmark, Consistency, Point, Proved, Volume, VolumeAt, VolumeDiff
from vsnapfs.core.state import Status
from vsnapfs.core.tapes import ArchiveEntry
from vsnapfs.core.times import parse_iso
from vsnapfs.policy.archive_choice import Due
from vsnapfs.repository import (
    anchors,
    archives,
    bookmarks,
    branch_changes,
    branch_check,
    branch_told,
    branches,
    events,
    gaps,
    identity,
    instants,
    intake,
    planning,
    prune,
    reading,
    schedules,
    scrub,
    settings,
    space,
    trust,
    verdicts,
    volumes,
)
from vsnapfs.repository.check import ALL_PERCENT, Wanted, check, check_unopened
from vsnapfs.repository.condition import status, window_percent
from vsnapfs.repository.diff import volume_diff
from vsnapfs.repository.export import Target, export_diff, export_image
from vsnapfs.repository.federation import FederatedPart
from vsnapfs.repository.instants import WriteRecord
from vsnapfs.repository.layout import CATALOG, DIRECTORIES, JOURNAL, SETTINGS, Layout
from vsnapfs.repository.lock import OwnerLock
from vsnapfs.repository.marks import Marks
from vsnapfs.repository.parts import Listener, Parts, Report
from vsnapfs.repository.resolve import not_before, resolve
from vsnapfs.repository.restores import Restores
from vsnapfs.repository.settings import Settings
from vsnapfs.repository.units import Unit, all_units


class Repository(Closing):
    """Open with ``Repository.open``; a context manager.

    Resource handling: ``close`` ends everything; views must have been closed before, and nothing else may be running.
    """

    def __init__(self, parts: Parts, federated: FederatedPart, stack: ExitStack) -> None:
        self._parts = parts
        self.federated = federated
        """Its part in bookmarks over several repositories."""
        self.restores = Restores(parts)
        """Volumes as they were, in files and on live volumes."""
        self.marks = Marks(parts)
        """Positions taken while a profile's members are still, and the bookmarks made of them."""
        self._stack = stack
        self._seen_seqno = parts.journal.facts().committed_seqno

    @classmethod
    def create(cls, path: Path) -> None:
        """Make an empty repository. Raises: UsageError: the directory is not empty.

        NotFoundError: its parent is missing. PermissionDeniedError: it is somebody else's.
        """
        layout = identity.prepare(path)
        uuid = uuids.uuid4()
        with ExitStack() as stack:
            stack.callback(layout.close)
            trust.require(layout, owner=True)
            for directory in DIRECTORIES:
                layout.make_directory(directory)
            layout.write(SETTINGS, settings.DEFAULT_TEXT.encode())
            Journal.create(stack.enter_context(Store(layout.fd)), uuid.bytes)
            identity.write(layout, uuid)

    @classmethod
    def open(
        cls, path: Path, *, owner: bool, keep: Keep | None = None, locked: bool = False, sound_part: bool = False
    ) -> Repository:
        """Open for changes (owner) or for reading; a reader takes no lock and writes nothing.

        Args: keep: memory that outlives this process: what it holds of the journal is taken over first. Borrowed. locked:
        the caller holds the lock for longer than this. sound_part: where damage makes the rest of the journal unreadable,
        a reader has what stands before it.

        An owner finishes what a crash interrupted, brings every primary up to the journal, and holds the lock until
        ``close``. Raises: NotFoundError, FormatUnknownError, PermissionDeniedError (others can write to it), LockedError (with
        the holder's pid), UsageError (settings), IntegrityError.
        """
        with ExitStack() as stack:
            layout = identity.find(path)
            stack.callback(layout.close)
            trust.require(layout, owner=owner)
            uuid = identity.read(layout)
            if owner:
                if not locked:
                    stack.callback(OwnerLock(layout).release)
                for directory in DIRECTORIES:
                    if directory != JOURNAL and not layout.exists(directory):
                        layout.make_directory(directory)
            chosen = settings.load(layout)
            store = stack.enter_context(Store(layout.fd))
            known_seqno = applied_in(Place(layout.fd, layout.absolute(CATALOG)), str(uuid)) if owner else 0
            try:
                journal = Journal(
                    store,
                    uuid.bytes,
                    owner=owner,
                    ack_journal=chosen.journal.ack == "journal",
                    segment_bytes=chosen.journal.segment_bytes,
                    keep=keep,
                    known_seqno=known_seqno,
                    available=owner and chosen.journal.on_journal_failure == "available",
                    reserve_bytes=chosen.journal.reserve_bytes(_disk_bytes(layout)) if owner else 0,
                    sound_part=sound_part,
                )
            except JournalBehindError as error:
                raise behind(known_seqno, error.seqno or 0) from error
            except IntegrityError as error:
                raise error if sound_part else with_hint(error, "`vsnapfs check` says what that costs") from error
            primaries: dict[int, int] = {}
            stack.callback(_close_all, primaries)
            stack.callback(journal.close)
            parts = Parts(layout, uuid, chosen, store, journal, owner, primaries)
            stack.callback(parts.close_catalog)
            stack.callback(parts.branches.close)
            if owner:
                volumes.clear_leftovers(parts)
                volumes.attach_all(parts)
                branch_changes.recover(parts)
            else:
                branches.load(parts)
            return cls(parts, FederatedPart(parts), stack.pop_all())

    def end_work(self) -> None:
        """Have whatever takes long (imports, prunes) give up, now and from now on; returns when it has."""
        self._parts.end_work()

    def close(self) -> None:
        """Commit, bring the primaries up, let go of the lock. A running import gives up. Twice is allowed.

        Raises: StoreError: the last commit failed; everything is closed all the same.
        """
        self._parts.end_work()
        self._stack.close()

    @property
    def path(self) -> Path:
        """Absolute, without symlinks."""
        return self._parts.layout.path

    @property
    def uuid(self) -> str:
        return str(self._parts.uuid)

    @property
    def settings(self) -> Settings:
        return self._parts.settings

    @property
    def journal(self) -> Journal:
        return self._parts.journal

    @property
    def owner(self) -> bool:
        return self._parts.owner

    @property
    def generation(self) -> int:
        """Changes whenever a volume, bookmark or branch is added, changed or removed: as long as it is the same, names are."""
        return self._parts.generation

    def refresh(self) -> bool:
        """Take in what the owner has committed since; for the owner itself, see whether it has.

        True: there are new records.
        """
        with self._parts.change:
            self.journal.refresh()
            self._parts.catch_up()
            committed = self.journal.facts().committed_seqno
            before, self._seen_seqno = self._seen_seqno, committed
        return committed != before

    def volumes(self, point: Point | None = None, *, removed: bool = False) -> list[Volume]:
        """The volumes by name, now or as they were at a point. removed: also those that had been removed by then."""
        return volumes.listed(self._parts, point, removed)

    def volume(self, name: str, point: Point | None = None) -> Volume:
        """One of them. Raises: NotFoundError with names that look like it."""
        seqno = None if point is None else point.seqno
        return volumes.describe(self._parts, self._parts.entry(name, seqno), seqno)

    def volume_add(
        self,
        name: str,
        *,
        size_bytes: int | None = None,
        primary: Path | None = None,
        block_size_bytes: int = 512,
        progress: Report = None,
    ) -> Volume:
        """Add a thin volume of a size, or protect an image or block device as it is; exactly one of the two.

        Args: block_size_bytes: 512 or 4096, what the volume shall look like to its users.
        Raises: UsageError, NameTakenError, NotFoundError, BusyError (mounted, in use, another volume's), NoSpaceError.
        """
        if primary is not None and size_bytes is None:
            volume = volumes.add_existing(self._parts, name, primary, block_size_bytes, progress)
        elif size_bytes is not None and primary is None:
            volume = volumes.add_thin(self._parts, name, size_bytes, block_size_bytes)
        else:
            raise UsageError("a volume needs either a size or a primary", hint="give --size or --primary")
        self.tell("volume_added", name, size_bytes=volume.size_bytes, primary=volume.primary_path)
        return volume

    def volume_remove(self, name: str) -> None:
        """Remove from now on; older points keep it. A primary in the repository is deleted, any other is left alone."""
        volumes.remove(self._parts, name)
        self.tell("volume_removed", name)

    def volume_resize(self, name: str, size_bytes: int) -> Volume:
        """Grow or shrink a volume and its primary. Raises: UsageError: no such size, or a device that is smaller."""
        volume = volumes.resize(self._parts, name, size_bytes)
        self.tell("volume_resized", name, size_bytes=size_bytes)
        return volume

    def volume_resync(self, name: str, progress: Report = None) -> int:
        """Journal what was written to the primary past the splitter. A gap, if there is one, is closed first.

        Returns the bytes journalled.
        """
        changed_bytes = gaps.close(self._parts, progress) + intake.resync(self._parts, name, progress)
        self.tell("volume_resynced", name, changed_bytes=changed_bytes)
        return changed_bytes

    def gap_close(self, progress: Report = None) -> int:
        """Go on journalling after a gap. Returns the bytes that differed. Raises: NoSpaceError, StoreError: not yet."""
        return gaps.close(self._parts, progress)

    def bookmarks(self) -> list[Bookmark]:
        """All of them, by seqno, then by the record that made them."""
        with self._parts.names:
            return list(self._parts.index.bookmarks())

    def bookmark(self, name: str) -> Bookmark:
        """One of them. Raises: NotFoundError with names that look like it."""
        return bookmarks.find(self._parts, name)

    def bookmark_add(
        self,
        name: str,
        *,
        at: str | None = None,
        consistency: Consistency = "crash",
        application: str = "",
        note: str = "",
        schedule: str = "",
    ) -> Bookmark:
        """Name this moment, or the past point ``at``. Everything written before it is durable when this returns.

        Args: schedule: the name of what makes it regularly.
        Raises: NameTakenError, UsageError (name, texts), PointGoneError (at is outside the window).
        """
        body = bookmarks.describe(name, consistency, application, note, schedule)
        return bookmarks.add(self._parts, body, 0 if at is None else self.resolve(at).seqno)

    def bookmark_remove(self, name: str, seqno: int | None = None) -> list[str]:
        """Remove a name; nothing else is. Returns the branches that stand on its point, which stays for them.

        Args: seqno: only if it is of this point. Raises: NotFoundError: also if it is of another. BusyError: it is held.
        """
        standing = self._parts.branches.standing_at(self.bookmark(name).seqno)
        bookmarks.remove(self._parts, name, seqno)
        self.tell("bookmark_removed", name, branches=standing)
        return standing

    def bookmark_hold(self, name: str, note: str = "", until: str | None = None) -> Bookmark:
        """Keep a bookmark from being removed until the journal is at the time ``until``, or until it is released.

        Raises: UsageError: no time, or one that is past.
        """
        bookmark = bookmarks.hold(self._parts, name, note, None if until is None else parse_iso(until))
        self.tell("bookmark_held", name, note=note, until=bookmark.hold_until)
        return bookmark

    def bookmark_release(self, name: str) -> Bookmark:
        bookmark = bookmarks.release(self._parts, name)
        self.tell("bookmark_released", name)
        return bookmark

    def verdict_give(
        self,
        seqno: int,
        *,
        good: bool,
        profile: str = "",
        took_s: float = 0,
        volumes: tuple[str, ...] = (),
        proved: tuple[Proved, ...] = (),
        reason: str = "",
        remarks: tuple[str, ...] = (),
    ) -> list[Bookmark]:
        """Keep what a proof of a point has come to, with all its bookmarks, which are returned.

        Args: proved: what was done and went well. reason: why it is not good. remarks: which volumes were not looked at as
        the others.
        Raises: UsageError: a name that cannot be. PointGoneError: by now. StoreError, NoSpaceError.
        """
        given = VerdictGiven(good, profile, round(took_s * 1000), volumes, proved, reason, remarks)
        return verdicts.give(self._parts, seqno, verdicts.checked(given))

    def verifications_handled_ns(self) -> dict[str, int]:
        """Until when each profile of ``[verify.NAME]`` has had its runs, or it was told why not; of each that has begun."""
        return verdicts.handled_ns(self._parts)

    def archives_due(self, names: Collection[str], anew: Collection[tuple[str, str]] = ()) -> list[Due]:
        """What policies of ``[archive.NAME]`` would have archived now, the oldest point first. Right for the first of them: what is
        archived changes how the next one is.

        Args: names: of the policies. anew: of policies and bookmarks for which what was broken off is of no use.
        Raises: IntegrityError, StoreError, BusyError: the catalog of tapes cannot be read.
        """
        return archives.due(self._parts, names, anew)

    def archive_of(self, due: Due) -> ArchiveEntry | None:
        """The archive by which what was due is done; None: it is not. Raises: as ``archives_due``."""
        return archives.copy_of(self._parts, due)

    def is_archived(self, policy: str, point: Point) -> bool:
        """A policy of ``[archive.NAME]`` has the point on its medium. Raises: as ``archives_due``."""
        return archives.is_archived(self._parts, policy, point)

    def bookmark_space(self) -> list[Space]:
        """What each bookmark takes, in the order of ``bookmarks``. Reads maps of all of them: it takes its time."""
        return space.spaces(self._parts)

    def branches(self) -> list[Branch]:
        """All of them, by name; those too that are damaged, with their problem. Opens each: it takes its time."""
        return branch_told.listed(self._parts)

    def branch(self, name: str) -> Branch:
        """One of them. Raises: NotFoundError with names that look like it."""
        return branch_told.described(self._parts, name)

    def branch_add(self, name: str, source: str, *, quota_bytes: int | None = None, note: str = "") -> Branch:
        """Make a branch on a point, or on what another branch (``branch:NAME``) has now. It survives any crash when this returns.

        Args: quota_bytes: so much may be written to it.
        Raises: NameTakenError, UsageError (name, note, quota), NotFoundError, PointGoneError, GapError, NoSpaceError. BusyError: the
        point is going, or the branch has too many layers. IntegrityError: what it shall be made from is damaged.
        """
        return branch_changes.add(self._parts, name, source, quota_bytes, note)

    def branch_remove(self, name: str) -> None:
        """Remove a branch, and all that was written to it and no other needs. Raises: NotFoundError. BusyError: it is open."""
        branch_changes.remove(self._parts, name)

    def branch_report(self, name: str, report: dict[str, Any]) -> Branch:
        """Keep a report with a branch, in place of the one before. Raises: NotFoundError. UsageError: it is too long."""
        return branch_changes.report(self._parts, name, report)

    def branch_file(self, name: str, volume: str, branch_id: int | None = None) -> VolumeFile:
        """An open file on a volume of a branch, for the plane, which takes it over.

        Args: branch_id: of the branch that is meant; None: whichever has the name.
        Raises: NotFoundError. IntegrityError: the branch is damaged.
        """
        return branches.volume_file(self._parts, name, volume, branch_id)

    def branch_places(self) -> list[BranchPlace]:
        """What the tree shows of those that can be opened, by name; opens none."""
        return branches.places(self._parts)

    def branch_manifest(self, name: str) -> dict[str, Any]:
        """What MANIFEST.json says of a branch. Raises: NotFoundError."""
        return branch_told.manifest(self._parts, name)

    def branch_changed_ns(self, name: str, volume: str) -> int:
        """When a volume of a branch was last written to, by the clock. Raises: NotFoundError."""
        return branches.changed_ns(self._parts, name, volume)

    def prune_preview(self) -> Prune:
        """What ``prune`` would do now: which bookmarks go and why the others stay, and what that gives back."""
        return prune.preview(self._parts)

    def prune(self, progress: Report = None) -> Prune:
        """Remove bookmarks as ``[retention]`` of the settings says, then give back what nothing needs any more.

        Raises: BusyError: it is being done already, the repository is being closed, or the catalog of tapes is changed all the
        while. NoSpaceError, StoreError.
        """
        return prune.prune(self._parts, progress)

    def plan(self, *, noticed_in_s: float, recover_in_s: float, write: bool = False) -> Plan:
        """What window, bookmarks and retention to choose, by what was written so far; write: into the settings, for the next opening.

        Args: noticed_in_s: so long may pass until somebody notices a defect. recover_in_s: and until all is well again.
        Raises: DegradedError: the journal does not tell of an hour yet. UsageError.
        """
        proposed = planning.plan(self._parts, noticed_in_s, recover_in_s)
        return planning.write(self._parts, proposed) if write else proposed

    def resolve(self, text: str) -> Point:
        """What a point in any of its forms means. Raises: UsageError, NotFoundError with near names, PointGoneError."""
        return resolve(self._parts, text, time.time_ns())

    def point_not_before(self, seqno: int) -> Point:
        """The oldest point at or after a record that can be opened. Raises: PointGoneError: there is none. GapError."""
        return not_before(self._parts, seqno)

    def manifest(self, point: Point) -> dict[str, Any]:
        """What MANIFEST.json says of a point."""
        return reading.manifest(self._parts, point)

    def volume_at(self, name: str, point: Point) -> VolumeAt:
        """A volume's size, data and last write at a point. Raises: NotFoundError."""
        return reading.volume_at(self._parts, name, point)

    def view(self, name: str, point: Point) -> View:
        """A volume at a point, to read; close it. Raises: NotFoundError. IntegrityError: its base is not there."""
        return reading.view(self._parts, name, point)

    def diff(self, since: Point, until: Point, name: str) -> VolumeDiff:
        """What of a volume differs between two points. Raises: UsageError: since is later. NotFoundError."""
        return volume_diff(self._parts, since, until, name)

    def state(self, volumes: Collection[int], point: Point) -> int:
        """The last record at or before a point that wrote to one of these volumes (ids): where it is the same, they are.

        Raises: NotFoundError: one was not added yet.
        """
        return instants.state(self._parts, volumes, point.seqno)

    def instants(self, volumes: Collection[int], since: int, until: int, most: int) -> list[int]:
        """Seqnos in between at which one of these volumes (ids) was written and that can be opened; some of them, evenly, if they
        are more than ``most``."""
        return instants.instants(self._parts, volumes, since, until, most)

    def write_record(self, seqno: int) -> WriteRecord:
        """What a record wrote, and where. Raises: PointGoneError: there is no such write, or not any more."""
        return instants.write_record(self._parts, seqno)

    def export(self, point: Point, name: str, out: Target, progress: Report = None) -> None:
        """Write a volume at a point as a raw image. Raises: NoSpaceError, StoreError, CorruptExtentError."""
        with self.view(name, point) as view:
            export_image(view, name, out, progress)

    def export_changes(self, since: Point, until: Point, name: str, out: Target, progress: Report = None) -> None:
        """Write what differs as a tar stream of ``NAME.json`` (VolumeDiff) and ``NAME.extents`` (the bytes)."""
        diff = self.diff(since, until, name)
        with self.view(name, until) as view:
            export_diff(diff, view, out, progress)

    def import_images(
        self,
        images: dict[str, Path],
        bookmark: str,
        *,
        consistency: Consistency = "crash",
        application: str = "",
        note: str = "",
        progress: Report = None,
    ) -> Bookmark:
        """Bring volumes (by name) to the content of images, journalling only what differs, and name the result.

        Nobody may write to the images or to these volumes meanwhile.
        Raises: before anything is written NameTakenError, UsageError, NotFoundError, DegradedError.
        """
        body = bookmarks.describe(bookmark, consistency, application, note)
        made = intake.import_images(self._parts, images, body, progress)
        self.tell("imported", bookmark, images={volume: str(image) for volume, image in images.items()})
        return made

    def tell(self, kind: EventKind, subject: str = "", **detail: Any) -> None:
        """Something happened: put it in the table of events, and tell those that listen. Never fails; a reader tells nothing.

        Args: subject: the name of what it happened to; "": the repository. detail: values of JSON, short ones.
        """
        events.tell(self._parts, kind, subject, **detail)

    def listen(self, listener: Listener) -> None:
        """Have ``listener`` told of every event, from those of the opening on, in the thread that it happens in.

        It does not wait, and raises nothing.
        """
        events.listen(self._parts, listener)

    def events(
        self,
        *,
        after: int = 0,
        since_ns: int = 0,
        kinds: Iterable[str] = (),
        limit: int = EVENTS_MAX,
        newest: bool = False,
    ) -> list[Event]:
        """What happened, in the order in which it was told: the first ``limit`` of them, or the newest.

        Args: after: only those with a greater id. kinds: only these; none: all.
        Raises: IntegrityError, StoreError: the catalog cannot be read.
        """
        wanted = WantedEvents(after=after, since_ns=since_ns, kinds=frozenset(kinds), limit=limit, newest=newest)
        return events.read(self._parts, wanted)

    @property
    def last_event_id(self) -> int:
        """Of the newest event; 0: there was none, or this is a reader."""
        return self._parts.events.last_id

    def save_left(self) -> None:
        """Owner: write what was told, or is in the catalog, and could not be written then."""
        events.save(self._parts)

    def window_percent(self) -> int | None:
        """What share of the promised window there is room for. None: none was promised, or nobody can tell yet."""
        return window_percent(self._parts)

    def schedules_last_made(self) -> dict[str, Bookmark]:
        """The newest bookmark that each schedule of the settings has made."""
        return schedules.last_made(self._parts)

    def schedules_handled_ns(self) -> dict[str, int]:
        """Until when each of these schedules has had its runs, or it was told why not; of each that has begun."""
        return schedules.handled_ns(self._parts)

    def status(self) -> Status:
        """Figures and problems of now."""
        return status(self._parts)

    def check(
        self, *, read_data: bool = False, repair: bool = False, wanted: Wanted | None = None, progress: Report = None
    ) -> Check:
        """Compare everything with everything; read_data: every block with its checksum; repair: make derived files
        again. wanted: the same and more, instead of both.
        """
        chosen = wanted or Wanted(percent=ALL_PERCENT if read_data else 0, repair=repair)
        return check(self._parts, chosen, progress)

    def check_branches(self, *, read_data: bool = False, progress: Report = None) -> BranchFindings:
        """The same of branches: their files, and with read_data every block. A reader does it only where no owner writes to them."""
        return branch_check.check(self._parts, read_data, progress)

    def anchor(self, key: bytes | None = None) -> Anchor:
        """What proves later that the past up to the last sealed segment was not rewritten. key: of its MAC; None: that of
        the settings. Raises: NotFoundError: no segment is sealed. UsageError, PermissionDeniedError: no such key.
        """
        return anchors.make(self._parts, key)

    def scrub_progress(self) -> scrub.Progress:
        """How far the scrub is, as it was kept."""
        return scrub.load(self._parts.layout)

    def scrub_keep(self, progress: scrub.Progress) -> None:
        """Owner: keep it. Raises: StoreError."""
        self._parts.require_owner()
        scrub.save(self._parts.layout, progress)

    def scrub_units(self) -> list[Unit]:
        """What there is to read, in order."""
        return [*all_units(self._parts), *branch_check.units(self._parts)]

    def scrub_unit(self, unit: Unit) -> list[Damage]:
        """Compare one that is no branch. Raises: StoreError: after ``scrub_end``."""
        return scrub.read_unit(self._parts, unit)

    def scrub_branch(self, unit: Unit, rest: Callable[[], None]) -> list[Damage]:
        """Owner: compare a branch. rest: is called after each piece, and may raise."""
        return scrub.read_branch(self._parts, unit, rest)

    def scrub_end(self) -> None:
        """Have ``scrub_unit`` give up, now and from now on."""
        self._parts.journal.check_end()

    def scrub_unopened(self, error: IntegrityError) -> list[Damage]:
        """What it costs that nobody else can open the repository any more."""
        return check_unopened(self._parts.layout, error).damages


def unopened(path: Path, error: IntegrityError) -> Check:
    """What it costs that not even a part of the repository can be opened, which ``error`` says. Raises: as open."""
    with ExitStack() as stack:
        layout = identity.find(path)
        stack.callback(layout.close)
        return check_unopened(layout, error)


def _close_all(primaries: dict[int, int]) -> None:
    """After the journal was closed, which had borrowed them."""
    for fd in primaries.values():
        os.close(fd)


def _disk_bytes(layout: Layout) -> int:
    disk = os.fstatvfs(layout.fd)
    return disk.f_blocks * disk.f_frsize

"""The journal: appending, following, asking about the past.

Source: native/include/journal.h; native/FORMAT.md section 2.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from enum import IntEnum
from typing import Any, NamedTuple

from vsnapfs.binding._native import ffi, lib
from vsnapfs.binding.closing import Closing
from vsnapfs.binding.faults import Fault, check, fault_from
from vsnapfs.binding.keep import Keep
from vsnapfs.binding.store import Store
from vsnapfs.binding.view import View, VolumeFile, VolumeState, state_from

ENOENT = -2
PIECES_PER_CALL = 4096


class RecordKind(IntEnum):
    """Types of records, as in the format."""

    WRITE = lib.VS_RECORD_WRITE
    ZERO = lib.VS_RECORD_ZERO
    VOLUME_ADD = lib.VS_RECORD_VOLUME_ADD
    VOLUME_RESIZE = lib.VS_RECORD_VOLUME_RESIZE
    VOLUME_REMOVE = lib.VS_RECORD_VOLUME_REMOVE
    BOOKMARK_ADD = lib.VS_RECORD_BOOKMARK_ADD
    BOOKMARK_REMOVE = lib.VS_RECORD_BOOKMARK_REMOVE
    BOOKMARK_HOLD = lib.VS_RECORD_BOOKMARK_HOLD
    GAP_BEGIN = lib.VS_RECORD_GAP_BEGIN
    GAP_END = lib.VS_RECORD_GAP_END
    FLOOR = lib.VS_RECORD_FLOOR


class JournalFacts(NamedTuple):
    """A journal's figures; each is explained in journal.h."""

    first_seqno: int
    last_seqno: int
    committed_seqno: int
    applied_seqno: int
    last_time_ns: int
    segments: int
    journal_bytes: int
    payload_bytes: int
    commits: int
    commit_waits: int
    torn_bytes: int
    kept_records: int
    generation: int
    clock_jumps: int
    failed_volume: int
    failed: int
    pending: bool
    gap: int
    gap_reason: int
    gap_since_ns: int
    gap_since_seqno: int
    changed_bytes: int


class SegmentFacts(NamedTuple):
    """A file of the journal."""

    first_seqno: int
    last_seqno: int
    size_bytes: int
    sealed: bool
    digest: bytes
    """Of a sealed one, as it was first written; by the chain it speaks for all segments before."""
    ordinal: int
    ordinals: int
    """It stands for so many, from number ``ordinal`` on."""
    generation: int
    """Of the compaction that wrote it; 0: none did."""
    until_seqno: int
    """From here on it has all that later points show of it; 0 if no compaction wrote it."""


class Event(NamedTuple):
    """A record that is not a write. What ``a`` and ``b`` are depends on its kind (native/FORMAT.md section 2.2)."""

    seqno: int
    time_ns: int
    kind: RecordKind
    volume: int
    a: int
    b: int
    body: bytes


class RecordPiece(NamedTuple):
    """A run of data or of zeros that one record put into a volume."""

    seqno: int
    time_ns: int
    volume: int
    offset_bytes: int
    length_bytes: int
    zero: bool


class Request(NamedTuple):
    """Which request a change came with, so that one that is sent again is made once (volume_file.h)."""

    number: int
    lane: int
    resent: bool = False


def _segment_from(c: Any) -> SegmentFacts:
    return SegmentFacts(
        c.first_seqno,
        c.last_seqno,
        c.bytes,
        bool(c.sealed),
        bytes(ffi.buffer(c.digest)),
        c.ordinal,
        c.ordinals,
        c.generation,
        c.until_seqno,
    )


def _request(request: Request | None) -> Any:
    if request is None:
        return ffi.NULL
    return ffi.new("vs_request *", {"number": request.number | request.resent << 63, "lane": request.lane})


class Journal(Closing):
    """An open journal. One owner, any number of readers; any thread may call anything but ``close``."""

    def __init__(
        self,
        store: Store,
        uuid: bytes,
        *,
        owner: bool,
        ack_journal: bool = False,
        segment_bytes: int = 0,
        batch_bytes: int = 0,
        keep: Keep | None = None,
        known_seqno: int = 0,
        available: bool = False,
        reserve_bytes: int = 0,
        sound_part: bool = False,
    ) -> None:
        """Open; an owner recovers first. ``keep`` (borrowed until ``close``) holds what is appended beyond the process's death.
        ``known_seqno``: what an owner knows to have been committed. ``available``: an owner's journal that fails does not fail
        writes of volumes with a primary (``facts().gap``). ``reserve_bytes``: with less free the disk counts as full.
        ``sound_part``: a reader opens what stands before damage, where damage makes the rest unreadable (``broken``).

        Raises: IntegrityError: damage, a missing or foreign segment. JournalBehindError: it ends before known_seqno.
        FormatUnknownError: made by a newer program.
        """
        options = ffi.new("vs_journal_options *")
        options.uuid = uuid
        options.owner = owner
        options.ack_journal = ack_journal
        options.segment_bytes = segment_bytes
        options.batch_bytes = batch_bytes
        options.keep = ffi.NULL if keep is None else keep.c
        options.known_seqno = known_seqno
        options.available = available
        options.reserve_bytes = reserve_bytes
        options.sound_part = sound_part
        out = ffi.new("vs_journal **")
        check(lib.vs_journal_open(store.c, options, out), "open the journal")
        self._c: Any = out[0]

    @property
    def c(self) -> Any:
        """The C object, for other modules of this package."""
        return self._c

    @staticmethod
    def create(store: Store, uuid: bytes) -> None:
        """Write the first segment of a new repository; its directory journal/ exists."""
        check(lib.vs_journal_create(store.c, uuid), "create the journal")

    def close(self) -> None:
        """Commit, apply, note the clean end, free. Views must be closed before. Twice is allowed.

        Raises: StoreError: the last commit failed; the journal is freed all the same.
        """
        if self._c is not None:
            c, self._c = self._c, None
            check(lib.vs_journal_close(c), "close the journal")

    def facts(self) -> JournalFacts:
        """The figures of now."""
        c = ffi.new("vs_journal_facts *")
        lib.vs_journal_facts_get(self._c, c)
        values = {name: getattr(c, name) for name in JournalFacts._fields}
        return JournalFacts(**(values | {"pending": bool(c.pending)}))

    def refresh(self) -> bool:
        """Reader: take in what was appended since. True: something new."""
        return bool(check(lib.vs_journal_refresh(self._c), "follow the journal"))

    def write(
        self,
        volume: int,
        offset_bytes: int,
        buf: bytes | bytearray | memoryview,
        request: Request | None = None,
    ) -> int:
        """Append a write of 1 byte to 1 MiB; answered from memory. Returns its seqno, also that of a resent request."""
        seqno, q = ffi.new("uint64_t *"), _request(request)
        with ffi.from_buffer("uint8_t[]", buf) as source:
            status = lib.vs_journal_write(self._c, volume, offset_bytes, source, len(source), q, seqno)
            check(status, "write to the journal")
        return int(seqno[0])

    def zero(self, volume: int, offset_bytes: int, length_bytes: int, request: Request | None = None) -> int:
        """Append a zero record of any length > 0. Returns its seqno, also that of a resent request."""
        seqno, q = ffi.new("uint64_t *"), _request(request)
        check(lib.vs_journal_zero(self._c, volume, offset_bytes, length_bytes, q, seqno), "write to the journal")
        return int(seqno[0])

    def event(self, kind: RecordKind, *, volume: int = 0, a: int = 0, b: int = 0, body: bytes = b"") -> tuple[int, int]:
        """Append an event. Returns its seqno and the volume's id (a new one for VOLUME_ADD with volume 0)."""
        seqno, volume_out = ffi.new("uint64_t *"), ffi.new("uint32_t *")
        status = lib.vs_journal_event(self._c, kind, volume, a, b, body, len(body), seqno, volume_out)
        check(status, "write to the journal")
        return int(seqno[0]), int(volume_out[0])

    def commit(self) -> None:
        """Return when everything appended before is on stable storage (and on its primary, unless ack_journal)."""
        check(lib.vs_journal_commit(self._c), "commit the journal")

    def revive(self, *, in_reserve: bool = False) -> bool:
        """In a gap: verify the journal on its medium, and note in it that there was a gap. False: there is none, or it is noted.
        ``in_reserve``: also while the disk counts as full; then it takes events, and fails again with the first write.

        Raises: NoSpaceError, StoreError: the journal does not work yet. IntegrityError: it does not read back as committed.
        """
        return bool(check(lib.vs_journal_revive(self._c, in_reserve), "take up the journal again"))

    def next_changed(self, volume: int, from_bytes: int) -> tuple[int, int] | None:
        """(offset_bytes, length_bytes) of the next piece of a volume that may differ since a gap; None: no more."""
        offset, length = ffi.new("uint64_t *"), ffi.new("uint64_t *")
        found = lib.vs_journal_next_changed(self._c, volume, from_bytes, offset, length)
        return (int(offset[0]), int(length[0])) if found else None

    def resync(self, volume: int, offset_bytes: int, length_bytes: int) -> int:
        """Journal where at most 1 MiB of a live volume differs from its newest state. Returns the bytes that did; they are not
        committed. Writes to the repository's volumes wait meanwhile."""
        out = ffi.new("uint64_t *")
        check(lib.vs_journal_resync(self._c, volume, offset_bytes, length_bytes, out), "compare the live volume")
        return int(out[0])

    def gap_close(self) -> bool:
        """Note that nothing differs any more. False: something may, since a write was on its way when the journal was taken up
        again: compare once more. Raises: NoSpaceError, StoreError: the journal has failed again."""
        status = lib.vs_journal_gap_close(self._c)
        if status == -errno.EAGAIN:
            return False
        check(status, "close the gap")
        return True

    def seal(self) -> None:
        """Seal the active segment now, unless it is empty."""
        check(lib.vs_journal_seal(self._c), "seal the journal's segment")

    def merge_maps(self) -> bool:
        """Make one missing merged map. False: there was nothing to do."""
        return bool(check(lib.vs_journal_merge_maps(self._c), "merge maps"))

    def attach_primary(self, volume: int, fd: int) -> None:
        """Give a volume its primary (borrowed until detach or close); what it lacks is applied first."""
        check(lib.vs_journal_attach_primary(self._c, volume, fd), "attach the primary")

    def detach_primary(self, volume: int) -> None:
        """Commit, then let the primary go."""
        check(lib.vs_journal_detach_primary(self._c, volume), "detach the primary")

    def hold_applied(self) -> None:
        """A primary is missing: keep its writes to be applied until it is back."""
        lib.vs_journal_hold_applied(self._c)

    def read_live(self, volume: int, offset_bytes: int, length_bytes: int) -> bytes:
        """A volume that has a primary, as it is now; short at its end."""
        buf = bytearray(length_bytes)
        target = ffi.from_buffer("uint8_t[]", buf)
        n = check(lib.vs_journal_read_live(self._c, volume, offset_bytes, target, length_bytes), "read the live volume")
        return bytes(memoryview(buf)[:n])

    def events(self, after: int = 0) -> Iterator[Event]:
        """All events with seqno > after, in order, up to the newest committed one."""
        cursor, event = ffi.new("vs_event_cursor *"), ffi.new("vs_event *")
        body = ffi.new("uint8_t[]", lib.VS_BODY_MAX)
        cursor.after = after
        while check(lib.vs_journal_next_event(self._c, cursor, event, body, lib.VS_BODY_MAX), "read the journal"):
            bytes_ = bytes(ffi.buffer(body, event.body_bytes))
            yield Event(event.seqno, event.time_ns, RecordKind(event.type), event.volume, event.a, event.b, bytes_)

    def pieces(self, after: int = 0) -> Iterator[RecordPiece]:
        """What each write, zero and resize after a seqno put where, in order."""
        rows = ffi.new("vs_journal_row[]", PIECES_PER_CALL)
        while n := check(lib.vs_journal_rows(self._c, after, rows, PIECES_PER_CALL), "read the journal"):
            for r in rows[0:n]:
                yield RecordPiece(r.seqno, r.time_ns, r.volume, r.offset_bytes, r.length_bytes, bool(r.zero))
            after = rows[n - 1].seqno

    def volume_at(self, volume: int, seqno: int) -> VolumeState | None:
        """A volume's state after a record; None: it was not added yet. data_bytes is not filled."""
        out = ffi.new("vs_volume_state *")
        status = lib.vs_journal_volume_at(self._c, volume, seqno, out)
        if status == ENOENT:
            return None
        check(status, f"find volume {volume} at @{seqno}")
        return state_from(out)

    def seqno_at(self, time_ns: int) -> int:
        """The last record whose time is <= time_ns; 0: there is none."""
        out = ffi.new("uint64_t *")
        check(lib.vs_journal_seqno_at(self._c, time_ns, out), "find a time in the journal")
        return int(out[0])

    def time_of(self, seqno: int) -> int:
        """Time of a record, ns since 1970 UTC. Raises: PointGoneError: outside the window."""
        out = ffi.new("uint64_t *")
        check(lib.vs_journal_time_of(self._c, seqno, out), f"find @{seqno} in the journal")
        return int(out[0])

    def point_check(self, seqno: int) -> None:
        """Can the point be opened? Raises: PointGoneError: no, and why."""
        check(lib.vs_journal_point_check(self._c, seqno), f"open @{seqno}")

    def next_point(self, seqno: int) -> int | None:
        """The oldest point that is not before a seqno and can be opened; None: there is none."""
        out = ffi.new("uint64_t *")
        found = check(lib.vs_journal_point_next(self._c, seqno, out), f"find a point from @{seqno} on")
        return int(out[0]) if found else None

    def view(self, volume: int, seqno: int) -> View:
        """The volume after record seqno. Raises: PointGoneError; NotFoundError: the volume was not there."""
        out = ffi.new("vs_view **")
        check(lib.vs_view_open(self._c, volume, seqno, out), f"open volume {volume} at @{seqno}")
        return View(out[0])

    def base(self, volume: int) -> View:
        """The volume's base image alone. Raises: NotFoundError: it has none. IntegrityError."""
        out = ffi.new("vs_view **")
        check(lib.vs_view_open_base(self._c, volume, out), f"open the base of volume {volume}")
        return View(out[0])

    def changes(self, volume: int, since: int, until: int) -> View:
        """What records after since and up to until put into the volume. Raises: as ``view``."""
        out = ffi.new("vs_view **")
        check(lib.vs_view_open_changes(self._c, volume, since, until, out), f"compare volume {volume} since @{since}")
        return View(out[0])

    def live_file(self, volume: int) -> VolumeFile:
        """An open file on the live volume, for the plane."""
        out = ffi.new("vs_volume_file **")
        check(lib.vs_live_file(self._c, volume, out), "open the live volume")
        return VolumeFile(out[0])

    def segments(self) -> list[SegmentFacts]:
        """All segments of now, in order."""
        there = lib.vs_journal_segments(self._c, ffi.NULL, 0)
        while True:
            c = ffi.new("vs_segment_facts[]", there)
            room, there = there, lib.vs_journal_segments(self._c, c, there)
            if there <= room:
                return [_segment_from(c[index]) for index in range(there)]

    def broken(self) -> tuple[Fault, int] | None:
        """Opened with ``sound_part``: what ends the journal, and a record that was in it at least; None: nothing does."""
        fault, known = ffi.new("vs_fault *"), ffi.new("uint64_t *")
        return (fault_from(fault), int(known[0])) if lib.vs_journal_broken(self._c, fault, known) else None

    def check_end(self) -> None:
        """Have ``check_segment`` give up, now and from now on; it raises StoreError then."""
        lib.vs_journal_check_end(self._c)

    def check_base(self, volume: int) -> None:
        """What reading a base does not see. Raises: IntegrityError."""
        check(lib.vs_journal_check_base(self._c, volume), "check a base image's index")

    def check_segment(self, first_seqno: int, read_payload: bool) -> Iterator[Fault]:
        """What is wrong with the segment that begins with ``first_seqno``. Nothing, if none does any more: one that was compacted was
        compared with its checksums then."""
        offset, fault = ffi.new("uint64_t *"), ffi.new("vs_fault *")
        while True:
            status = lib.vs_journal_check_segment(self._c, first_seqno, read_payload, offset, fault)
            if status == ENOENT or not check(status, "check the journal"):
                return
            yield fault_from(fault)
            if offset[0] == 0:
                return

    def superseded(self) -> int:
        """Owner: delete files that a compaction has replaced and that nobody reads any more. Returns how many are left."""
        return check(lib.vs_journal_superseded(self._c), "delete compacted files")

    def check_generation(self) -> bool:
        """False: the file that tells readers of a compaction is damaged; they look at the names of the files instead."""
        return not lib.vs_journal_check_generation(self._c)

    def check_map(self, index: int) -> tuple[str, Fault | None] | None:
        """Check merged map number ``index``: its path and what is wrong with it. None: past the last."""
        fault, name = ffi.new("vs_fault *"), ffi.new("char[64]")
        status = lib.vs_journal_check_map(self._c, index, fault, name)
        if status == ENOENT:
            return None
        check(status, "check a map")
        return ffi.string(name).decode(), fault_from(fault) if status else None

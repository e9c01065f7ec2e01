"""Is everything as it was written? And if not, which points does it cost?

Maps and the catalog are compared with what the journal gives; they can be made again. Segments and base images are
only read: what they hold exists nowhere else in the repository, so nothing here writes to them.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator

import msgspec

from vsnapfs.binding import SegmentFacts, View
from vsnapfs.catalog.bodies import VolumeAdded, decode
from vsnapfs.catalog.catalog import check_end
from vsnapfs.catalog.file import Place
from vsnapfs.catalog.index import VolumeEntry
from vsnapfs.catalog.store import Seen, seen_in
from vsnapfs.core.errors import CorruptExtentError, IntegrityError, JournalBehindError, StoreError, VsnapfsError
from vsnapfs.core.findings import Check, Damage
from vsnapfs.core.state import Progress
from vsnapfs.repository import anchors, base, costs, identity, tapes
from vsnapfs.repository.layout import CATALOG, GENERATION, JOURNAL, Layout, base_image, base_index, segment
from vsnapfs.repository.parts import Parts, Report
from vsnapfs.repository.sparse import BLOCK_BYTES, PIECE_BYTES, Span
from vsnapfs.repository.units import WINDOW_BYTES, Kind, Unit, all_units, part_of, total_bytes

ALL_PERCENT = 100.0
SEED_BITS = 32


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What to look at."""

    percent: float = 0.0
    """So much of all bytes is read and compared, at least."""
    seed: int | None = None
    """Chooses the part; None: by chance."""
    repair: bool = False
    """Make derived files again; the damaged ones are kept as ``*.bad``."""
    anchor: str | None = None
    """A value of ``vsnapfs anchor``, to be proven."""
    anchor_key: bytes | None = None
    """The key of its MAC; None: that of the settings."""


def check(parts: Parts, wanted: Wanted, report: Report) -> Check:
    """Structure always; bytes as far as wanted. Raises: ReadOnlyError: repair by a reader.

    UsageError: an anchor that is none. NotFoundError: one of another repository.
    """
    if wanted.repair:
        parts.require_owner()
    anchor = None if wanted.anchor is None else anchors.read(parts, wanted.anchor, wanted.anchor_key)
    units = all_units(parts)
    is_part = 0 < wanted.percent < ALL_PERCENT
    seed = (secrets.randbits(SEED_BITS) if wanted.seed is None else wanted.seed) if is_part else None
    chosen = part_of(units, wanted.percent, seed) if seed is not None else units if wanted.percent else []
    run = Checking(parts, report)
    maps = run.structure(wanted.repair)
    run.everything(set(chosen))
    proof = None
    if anchor is not None:
        proof = anchors.prove(parts, anchor, "bytes" if wanted.percent >= ALL_PERCENT else "trailers", run.damages)
    return Check(
        segments=len(run.segments),
        maps=maps,
        bases=len(run.bases),
        read_bytes=total_bytes(chosen),
        data_bytes=total_bytes(units),
        seed=seed,
        damages=run.damages,
        anchor=proof,
    )


def check_unopened(layout: Layout, error: IntegrityError) -> Check:
    """Of a journal no part of which can be opened: everything that the catalog knows is lost."""
    seen = seen_in(Place(layout.fd, layout.absolute(CATALOG)), str(identity.read(layout)))
    damage = Damage(
        file=JOURNAL if error.segment is None else segment(error.segment),
        offset_bytes=error.offset_bytes or 0,
        what=str(error),
        derived=False,
        costs=costs.of_end(layout, seen, 0),
        lost_first_seqno=1,
        lost_last_seqno=max(seen.applied_seqno, 1),
    )
    return Check(segments=0, maps=0, bases=0, read_bytes=0, data_bytes=0, seed=None, damages=[damage])


class Checking:
    """One run: ``damages`` is what was found so far."""

    def __init__(self, parts: Parts, report: Report) -> None:
        self.parts = parts
        self.report = report
        self.segments = parts.journal.segments()
        self.bases = base.needed(parts)
        self.damages: list[Damage] = []
        self.files = 0

    def structure(self, repair: bool) -> int:
        """What has no bytes of volumes: maps, catalogs, the journal's end. Returns: how many maps there are.

        First of all, since a map that was used stays in memory until the end.
        """
        maps = self._maps(repair)
        self._generation()
        self._catalog(repair)
        self.damages += tapes.faults(self.parts.layout, str(self.parts.uuid))
        return maps

    def everything(self, read: set[Unit]) -> None:
        """Bases and segments: their structure, and the bytes of the units in ``read``."""
        for entry in self.bases:
            windows = sorted(unit for unit in read if unit.kind == Kind.BASE and unit.number == entry.id)
            self.base(entry, windows)
            self._tell()
        segments = {unit.number for unit in read if unit.kind == Kind.SEGMENT}
        for facts in self.segments:
            self.segment(facts, facts.first_seqno in segments)
            self._tell()

    def _maps(self, repair: bool) -> int:
        count, damaged = 0, []
        while (found := self.parts.journal.check_map(count)) is not None:
            name, fault = found
            count += 1
            if fault is not None:
                damaged.append(
                    Damage(file=name, offset_bytes=fault.offset_bytes, what=fault.text, derived=True, costs=[])
                )
        if repair:
            damaged = self._repaired_maps(damaged)
        self.damages += damaged
        return count

    def _repaired_maps(self, damaged: list[Damage]) -> list[Damage]:
        for damage in damaged:
            self.parts.layout.set_aside(damage.file)
        while self.parts.journal.merge_maps():
            pass
        exists = self.parts.layout.exists
        return [msgspec.structs.replace(damage, repaired=exists(damage.file)) for damage in damaged]

    def _generation(self) -> None:
        """An owner has mended it when it opened the journal."""
        if self.parts.journal.check_generation():
            return
        what = f"{GENERATION} is damaged; readers look at the names of the segments instead"
        self.damages.append(Damage(file=GENERATION, offset_bytes=0, what=what, derived=True, costs=[]))

    def _catalog(self, repair: bool) -> None:
        if not self.parts.owner:
            self._end()
            return
        with self.parts.change:
            faults = self.parts.catalog.faults(self.parts.journal)
            if faults and repair:
                self.parts.remake_catalog()
        for what in faults:
            self.damages.append(
                Damage(file=CATALOG, offset_bytes=0, what=what, derived=True, costs=[], repaired=repair)
            )

    def _end(self) -> None:
        """For a reader: does damage end the journal early, or has it lost its end? An owner would not have been let in."""
        seen = seen_in(self.parts.catalog_place, str(self.parts.uuid))
        broken = self.parts.journal.broken()
        if broken is not None:
            fault, known_seqno = broken
            self._lost_end(segment(fault.segment), fault.offset_bytes, fault.text, seen, known_seqno)
            return
        if seen.applied_seqno > self.parts.journal.facts().committed_seqno:  # it may have been written to meanwhile
            self.parts.journal.refresh()
            self.parts.catch_up()
        try:
            check_end(seen.applied_seqno, self.parts.journal)
        except JournalBehindError as error:
            self._lost_end(JOURNAL, 0, str(error), seen, 0)

    def _lost_end(self, file: str, offset_bytes: int, what: str, seen: Seen, known_seqno: int) -> None:
        last_seqno = self.parts.journal.facts().committed_seqno
        damage = Damage(
            file=file,
            offset_bytes=offset_bytes,
            what=what,
            derived=False,
            costs=costs.of_end(self.parts.layout, seen, last_seqno),
            lost_first_seqno=last_seqno + 1,
            lost_last_seqno=max(known_seqno, seen.applied_seqno, last_seqno + 1),
        )
        self.damages.append(damage)

    def segment(self, facts: SegmentFacts, read: bool) -> None:
        faults = list(self.parts.journal.check_segment(facts.first_seqno, read))
        structural = [fault for fault in faults if not fault.volume]
        lost, span = self._lost_with(facts) if len(structural) > 1 else ([], None)
        for fault in faults:
            is_first = structural[:1] == [fault]
            self.damages.append(
                Damage(
                    file=segment(facts.first_seqno, facts.generation),
                    offset_bytes=fault.offset_bytes,
                    what=fault.text,
                    derived=False,
                    costs=lost if is_first else costs.of_block(self.parts, fault),
                    lost_first_seqno=span[0] if span and is_first else None,
                    lost_last_seqno=span[1] if span and is_first else None,
                )
            )

    def _lost_with(self, facts: SegmentFacts) -> tuple[list[str], tuple[int, int] | None]:
        return costs.of_segment(self.parts, facts), costs.points_lost(self.parts, facts)

    def base(self, entry: VolumeEntry, windows: list[Unit]) -> None:
        """The base's structure, and the bytes in ``windows`` that the oldest point reads from it: no other point needs more.

        Of a whole base that was never moved also that they are those protected once.
        """
        try:
            opened = base.oldest_view(self.parts, entry)
            if opened is None:
                return  # no point needs it any more
            with opened:
                self._base_bytes(entry, opened, windows)
                self._base_holes(entry)
        except (IntegrityError, StoreError) as error:
            file = base_index(entry.id) if self.parts.layout.exists(base_image(entry.id)) else base_image(entry.id)
            lost = costs.of_volume(self.parts, entry)
            self.damages.append(
                Damage(file=file, offset_bytes=error.offset_bytes or 0, what=str(error), derived=False, costs=lost)
            )

    def _base_holes(self, entry: VolumeEntry) -> None:
        try:
            self.parts.journal.check_base(entry.id)
        except CorruptExtentError as error:
            self._base_damage(entry, base_index(entry.id), error.offset_bytes or 0, str(error), None)

    def _base_bytes(self, entry: VolumeEntry, opened: View, windows: list[Unit]) -> None:
        digest = hashlib.sha256()
        sound = len(self.damages)
        read_bytes = 0
        for window in windows:
            for at, length in _pieces(opened, window.offset_bytes):
                read_bytes += length
                try:
                    content = opened.read(at, length)
                except VsnapfsError:
                    self._base_blocks(entry, opened, Span(at, at + length))
                    continue
                for start in range(0, length, BLOCK_BYTES):
                    digest.update((at + start).to_bytes(8, "little"))
                    digest.update(content[start : start + BLOCK_BYTES].ljust(BLOCK_BYTES, b"\0"))
        is_whole = bool(windows) and read_bytes == self._taken_in_bytes(entry)
        kept = _kept_digest(self.parts, entry) if is_whole and len(self.damages) == sound else ""
        if kept and kept != digest.hexdigest():
            what = "its checksums match, but it is not what was protected: its digest is another"
            self._base_damage(entry, base_image(entry.id), 0, what, Span(0, entry.size_bytes))

    def _taken_in_bytes(self, entry: VolumeEntry) -> int | None:
        """How much the base held when it was taken in; None: it was moved since."""
        if base.moved_to(self.parts, entry):
            return None
        with self.parts.journal.base(entry.id) as taken_in:
            return taken_in.stat().data_bytes

    def _base_blocks(self, entry: VolumeEntry, opened: View, span: Span) -> None:
        for block in range(span.start_bytes // BLOCK_BYTES * BLOCK_BYTES, span.end_bytes, BLOCK_BYTES):
            part = Span(max(block, span.start_bytes), min(block + BLOCK_BYTES, span.end_bytes))
            what = _fault_in(opened, part.start_bytes, part.end_bytes - part.start_bytes)
            if what is not None:
                self._base_damage(entry, base_image(entry.id), block, what, part)

    def _base_damage(self, entry: VolumeEntry, file: str, offset_bytes: int, what: str, place: Span | None) -> None:
        lost = [] if place is None else costs.of_base(self.parts, entry, place)
        self.damages.append(Damage(file=file, offset_bytes=offset_bytes, what=what, derived=False, costs=lost))

    def _tell(self) -> None:
        self.files += 1
        total = len(self.segments) + len(self.bases)
        self.parts.tell(self.report, Progress(what="check", done=self.files, total=total, unit="files"))


def _pieces(opened: View, window_bytes: int) -> Iterator[tuple[int, int]]:
    """Where and how much: what is read from the base in a window, in pieces."""
    end = window_bytes + WINDOW_BYTES
    for span in base.spans_of(opened, window_bytes):
        if span.start_bytes >= end:
            return
        span_end = min(span.end_bytes, end)
        for at in range(span.start_bytes, span_end, PIECE_BYTES):
            yield at, min(PIECE_BYTES, span_end - at)


def _kept_digest(parts: Parts, entry: VolumeEntry) -> str:
    """What the journal says of a base's content; empty: nothing."""
    event = next(parts.journal.events(entry.added_seqno - 1))
    return decode(event.body, VolumeAdded, "volume", event.seqno).base_digest


def _fault_in(opened: View, offset_bytes: int, length_bytes: int) -> str | None:
    try:
        opened.read(offset_bytes, length_bytes)
    except (IntegrityError, StoreError) as error:
        return str(error)
    return None

"""Is everything as it was written? And if not, which points does it cost?

Maps and the catalog are compared with what the journal gives; they can be made again. Segments and base images are
only read: what they hold exists nowhere else in the repository, so nothing here writes to them.

What a damaged block costs is found without reading: a point needs it as long as no later record has written over all
of its bytes. Once it is covered it stays covered, so of the bookmarks in order the ones that need it are a first
part, found by bisection.
"""

from __future__ import annotations

import errno
from bisect import bisect_left
from collections.abc import Iterator

import msgspec

from vsnapfs.binding import Fault, Run, RunKind, View
from vsnapfs.catalog.catalog import JournalBehindError, check_end
from vsnapfs.catalog.index import VolumeEntry
from vsnapfs.catalog.store import Place, applied_in
from vsnapfs.core.errors import IntegrityError, VsnapfsError
from vsnapfs.core.model import Bookmark, Check, Damage, Progress
from vsnapfs.repository.layout import CATALOG, JOURNAL, base_image, base_index, segment
from vsnapfs.repository.parts import Parts, Report
from vsnapfs.repository.reading import view_of
from vsnapfs.repository.sparse import BLOCK_BYTES, PIECE_BYTES, Span


def check(parts: Parts, read_data: bool, repair: bool, report: Report) -> Check:
    """Everything but the bytes of volumes, and with ``read_data`` those too.

    Args: repair: make derived files again; the damaged ones are kept as ``*.bad``. Raises: ReadOnlyError: repair by a
    reader.
    """
    if repair:
        parts.require_owner()
    return _Checking(parts, read_data, repair, report).run()


class _Checking:
    """One run: what was found so far, and how far it is."""

    def __init__(self, parts: Parts, read_data: bool, repair: bool, report: Report) -> None:
        self.parts = parts
        self.read_data = read_data
        self.repair = repair
        self.report = report
        self.segments = parts.journal.facts().segments
        with parts.names:
            self.bases = [entry for entry in parts.index.volumes() if entry.base]
        self.damages: list[Damage] = []
        self.read_bytes = 0
        self.files = 0

    def run(self) -> Check:
        maps = self._maps()
        self._catalog()
        for entry in self.bases:
            self._base(entry)
        for index in range(self.segments):
            self._segment(index)
        if self.read_data:
            self.read_bytes += self.parts.journal.facts().journal_bytes
        return Check(
            segments=self.segments, maps=maps, bases=len(self.bases), read_bytes=self.read_bytes, damages=self.damages
        )

    def _maps(self) -> int:
        """Compare each merged map with its segments.

        First of all, since a map that was used stays in memory until the end.
        """
        count, damaged = 0, []
        while (found := self.parts.journal.check_map(count)) is not None:
            name, fault = found
            count += 1
            if fault is not None:
                damaged.append(
                    Damage(file=name, offset_bytes=fault.offset_bytes, what=fault.text, derived=True, costs=[])
                )
        if self.repair:
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

    def _catalog(self) -> None:
        if not self.parts.owner:
            self._end()
            return
        with self.parts.change:
            faults = self.parts.catalog.faults(self.parts.journal)
            if faults and self.repair:
                self.parts.remake_catalog()
        for what in faults:
            damage = Damage(file=CATALOG, offset_bytes=0, what=what, derived=True, costs=[], repaired=self.repair)
            self.damages.append(damage)

    def _end(self) -> None:
        """For a reader: has the journal lost its end? An owner would not have been let in."""
        applied_seqno = applied_in(Place(self.parts.layout.fd, self.parts.layout.absolute(CATALOG)))
        self.parts.journal.refresh()
        try:
            check_end(applied_seqno, self.parts.journal)
        except JournalBehindError as error:
            self.damages.append(Damage(file=JOURNAL, offset_bytes=0, what=str(error), derived=False, costs=[]))

    def _segment(self, index: int) -> None:
        for fault in self.parts.journal.check_segment(index, self.read_data):
            self.damages.append(
                Damage(
                    file=segment(fault.segment),
                    offset_bytes=fault.offset_bytes,
                    what=fault.text,
                    derived=False,
                    costs=self._costs_of_fault(fault),
                )
            )
        self._tell()

    def _costs_of_fault(self, fault: Fault) -> list[str]:
        with self.parts.names:
            entry = self.parts.index.volume_by_id(fault.volume)
        if fault.code != -errno.EBADMSG or entry is None:
            return []
        with self.parts.journal.changes(entry.id, fault.seqno - 1, fault.seqno) as written:
            return self._costs(entry, fault.seqno, _place(written, fault.offset_bytes // BLOCK_BYTES))

    def _base(self, entry: VolumeEntry) -> None:
        try:
            with view_of(self.parts, entry, entry.added_seqno) as opened:
                for damage in self._base_blocks(entry, opened) if self.read_data else ():
                    self.damages.append(damage)
        except IntegrityError as error:
            costs = self._costs(entry, entry.added_seqno, Span(0, entry.size_bytes))
            file = base_index(entry.id) if self.parts.layout.exists(base_image(entry.id)) else base_image(entry.id)
            offset_bytes = error.offset_bytes or 0
            self.damages.append(
                Damage(file=file, offset_bytes=offset_bytes, what=str(error), derived=False, costs=costs)
            )
        self._tell()

    def _base_blocks(self, entry: VolumeEntry, opened: View) -> Iterator[Damage]:
        """Read what the base holds: before any write the volume is its base alone."""
        for run in opened.runs():
            for at in range(run.offset_bytes, _end(run), PIECE_BYTES) if run.kind == RunKind.DATA else ():
                length = min(PIECE_BYTES, _end(run) - at)
                self.read_bytes += length
                if _fault_in(opened, at, length) is None:
                    continue
                for block in range(at, at + length, BLOCK_BYTES):
                    what = _fault_in(opened, block, min(BLOCK_BYTES, at + length - block))
                    if what is not None:
                        costs = self._costs(entry, entry.added_seqno, Span(block, block + BLOCK_BYTES))
                        yield Damage(
                            file=base_image(entry.id), offset_bytes=block, what=what, derived=False, costs=costs
                        )

    def _costs(self, entry: VolumeEntry, seqno: int, place: Span | None) -> list[str]:
        """POINT/VOLUME of the bookmarks that need what record ``seqno`` put at ``place`` of a volume."""
        if place is None:
            return []
        with self.parts.names:
            candidates = self.parts.index.bookmarks_from(seqno)
        first_free = bisect_left(candidates, True, key=lambda bookmark: not self._needs(bookmark, entry, seqno, place))
        return [f"{bookmark.name}/{entry.name}" for bookmark in candidates[:first_free]]

    def _needs(self, bookmark: Bookmark, entry: VolumeEntry, seqno: int, place: Span) -> bool:
        if bookmark.seqno == seqno:
            return True
        if not entry.stands_at(bookmark.seqno):
            return False
        with self.parts.journal.changes(entry.id, seqno, bookmark.seqno) as later:
            for run in later.runs(place.start_bytes, keep_zeros=True):
                if run.offset_bytes >= place.end_bytes:
                    break
                if run.kind == RunKind.HOLE:
                    return True
        return False

    def _tell(self) -> None:
        self.files += 1
        total = self.segments + len(self.bases)
        self.parts.tell(self.report, Progress(what="check", done=self.files, total=total, unit="files"))


def _place(written: View, block: int) -> Span | None:
    """Which bytes of the volume one record put into a payload block; within a record the blocks follow each other."""
    for run in written.runs():
        if run.kind != RunKind.DATA:
            continue
        start = run.offset_bytes // BLOCK_BYTES * BLOCK_BYTES + (block - run.block) * BLOCK_BYTES
        if run.block <= block and start < _end(run):
            return Span(max(start, run.offset_bytes), min(start + BLOCK_BYTES, _end(run)))
    return None


def _end(run: Run) -> int:
    return run.offset_bytes + run.length_bytes


def _fault_in(opened: View, offset_bytes: int, length_bytes: int) -> str | None:
    try:
        opened.read(offset_bytes, length_bytes)
    except VsnapfsError as error:
        return str(error)
    return None

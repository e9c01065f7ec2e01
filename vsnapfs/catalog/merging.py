"""What was read from tapes, taken into the catalog of them; and what a tape takes along that is none any more."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from vsnapfs.catalog import tape_tables as tables
from vsnapfs.catalog.streams import Streams
from vsnapfs.core.tapes import ArchiveEntry, PieceEntry, TapeEntry


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody has read from tapes: entries as they would be in the catalog, complete pieces alone."""

    tapes: tuple[TapeEntry, ...]
    archives: tuple[ArchiveEntry, ...]
    pieces: tuple[PieceEntry, ...]


class Merging(Streams):
    """Errors and concurrency: see catalog.tapes."""

    def merge(self, found: Found) -> list[str]:
        """Add what is not known. The same again changes nothing; what is known of a tape beyond its label (retired, protected)
        stays, and so does an archive that is complete. A label that stands on another tape in the catalog goes to the newer
        generation of the two, but never to one with archives of other repositories alone; what is on the other is not taken.

        Returns: the labels of those that were not taken.
        """
        with self._changing():
            foreign = self._foreign(found)
            for tape in found.tapes:
                self._merge_tape(tape, foreign=tape.uuid in foreign)
            tapes = {uuid for (uuid,) in self._db.execute("SELECT uuid FROM tape")}
            refused = {piece.archive for piece in found.pieces if piece.tape_uuid not in tapes}
            pieces = [piece for piece in found.pieces if piece.archive not in refused]
            archives = [archive for archive in found.archives if archive.uuid not in refused]
            self._insert("archive", (tables.archive_row(replace(one, state="failed")) for one in archives), "OR IGNORE")
            self._insert("piece", map(tables.piece_row, pieces), "OR IGNORE")
            for archive in archives:
                self._merge_state(archive)
        return [tape.label for tape in found.tapes if tape.uuid not in tapes]

    def _drop_tape(self, uuid: str, why: str) -> None:
        self._db.execute(
            "UPDATE archive SET state = 'lost', why = ? WHERE uuid IN (SELECT archive FROM piece WHERE tape_uuid = ?)",
            (why, uuid),
        )
        self._db.execute("DELETE FROM piece WHERE tape_uuid = ?", (uuid,))
        self._db.execute("DELETE FROM stream WHERE tape_uuid = ?", (uuid,))
        self._db.execute("DELETE FROM tape WHERE uuid = ?", (uuid,))

    def _foreign(self, found: Found) -> set[str]:
        """uuids of tapes with archives of other repositories alone."""
        ours = {archive.uuid for archive in found.archives if archive.repository == self._repository}
        held = {piece.tape_uuid for piece in found.pieces}
        return held - {piece.tape_uuid for piece in found.pieces if piece.archive in ours}

    def _merge_tape(self, tape: TapeEntry, *, foreign: bool) -> None:
        known = self._db.execute("SELECT uuid, generation FROM tape WHERE label = ?", (tape.label,)).get
        if known is not None:
            uuid, generation = known
            if uuid == tape.uuid or foreign or generation >= tape.generation:
                return
            self._drop_tape(uuid, f"tape {tape.label} was written over")
        # That of another repository is not appended to: that one may write over it when nothing of its own counts there.
        self._insert("tape", [tables.tape_row(replace(tape, state="full") if foreign else tape)], "")

    def _merge_state(self, archive: ArchiveEntry) -> None:
        """Of one that was seen: complete with all its pieces, and only then."""
        if archive.state == "complete":
            self._db.execute(
                "UPDATE archive SET state = 'complete', why = '' WHERE uuid = ?1 AND state <> 'complete'"
                " AND (SELECT count(*) FROM piece WHERE archive = ?1) >= ?2",
                (archive.uuid, archive.pieces),
            )

"""``tapes.db``: which archive is on which tape, and what becomes of tapes. It is primary data: nothing but the tapes themselves tells
the same, so it is synced with every change, never made again on the quiet, and a damaged one is an error.

It can be had again by reading tapes (``tape scan``), which ends in ``merge``.

Concurrency: several processes may have it open; each change is one transaction, and waits for others. One thread for each object.

Source: docs/tape.md; tape_tables.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vsnapfs.catalog import chains
from vsnapfs.catalog import tape_tables as tables
from vsnapfs.catalog.file import our_errors
from vsnapfs.catalog.merging import Found, Merging
from vsnapfs.core.errors import (
    BusyError,
    DegradedError,
    NotFoundError,
    PermissionDeniedError,
)
from vsnapfs.core.names import near
from vsnapfs.core.tapes import ArchiveEntry, PieceEntry, TapeEntry, TapeLabel

__all__ = ["Found", "Tapes"]

ANEW = "make another archive; what was on that tape does not count"


class Tapes(Merging):
    """The open catalog of tapes.

    Errors of all methods: IntegrityError: the file is damaged. FormatUnknownError: of a newer version. NoSpaceError, StoreError;
    BusyError: somebody else has been changing it for longer than 10 s.
    """

    # What becomes of tapes.

    def tapes(self) -> list[TapeEntry]:
        """All, by label; a label that stands on one tape alone."""
        return self._tapes("1", ())

    def tape(self, label: str) -> TapeEntry:
        """Raises: NotFoundError: with near labels."""
        found = self._tapes("label = ?", (label,))
        if not found:
            labels = [tape.label for tape in self.tapes()]
            raise NotFoundError(f"no tape {label!r} is in the catalog", near=near(label, labels))
        return found[0]

    def begin_tape(self, label: TapeLabel, *, force: bool = False) -> None:
        """A tape gets this label. What was known of the tape that had it is gone, and archives with a piece on that are lost.

        Args: force: also if what is on that counts. Raises: PermissionDeniedError: that was protected, whoever asked before;
        BusyError: it counts.
        """
        with self._changing():
            self._begin_tape(label, force=force)

    def forget_tape(self, label: str) -> None:
        """The tape of this label is none any more: archives with a piece on it are lost. Raises: NotFoundError."""
        with self._changing():
            self._drop_tape(self.tape(label).uuid, f"tape {label} was written over")

    def set_full(self, tape_uuid: str) -> None:
        """Its end was met."""
        with self._changing():
            self._db.execute("UPDATE tape SET state = 'full' WHERE uuid = ? AND state = 'open'", (tape_uuid,))

    def retire(self, label: str, now_ns: int) -> TapeEntry:
        """Nothing on it counts any more. Raises: NotFoundError."""
        with self._changing():
            uuid = self.tape(label).uuid
            self._db.execute(
                "UPDATE tape SET state = 'retired', retired_ns = ? WHERE uuid = ? AND state <> 'retired'",
                (now_ns, uuid),
            )
        return self.tape(label)

    def protect(self, label: str, *, protected: bool) -> TapeEntry:
        """Nothing more is written to it, or may be again. Raises: NotFoundError."""
        with self._changing():
            self._db.execute("UPDATE tape SET protected = ? WHERE uuid = ?", (int(protected), self.tape(label).uuid))
        return self.tape(label)

    # What becomes of archives.

    def begin_archive(self, archive: ArchiveEntry) -> None:
        """It is under way. One of the same uuid goes on (resume)."""
        with self._changing():
            row = tables.archive_row(archive)
            self._insert("archive", [row], "OR IGNORE")
            self._db.execute("UPDATE archive SET state = 'under way', why = '' WHERE uuid = ?", (archive.uuid,))

    def piece_done(self, piece: PieceEntry, now_ns: int) -> None:
        """A piece and its index are on the tape, durably. The same again changes nothing; another one of the same number takes
        its place. Of a clock that was set back the latest time that was heard of counts, or a tape would be free too early.

        Raises: NotFoundError: the tape or the archive is not known. DegradedError: nothing on the tape counts any more."""
        with self._changing():
            tape = self._db.execute("SELECT label, state FROM tape WHERE uuid = ?", (piece.tape_uuid,)).get
            known = self._db.execute("SELECT count(*) FROM archive WHERE uuid = ?", (piece.archive,)).get
            if tape is None or not known:
                raise NotFoundError(f"the tape or the archive of piece {piece.number} of {piece.archive} is not known")
            if tape[1] == "retired":
                raise DegradedError(f"tape {tape[0]} was retired while it was written to", hint=ANEW)
            self._insert("piece", [tables.piece_row(piece)], "OR REPLACE")
            self._db.execute(
                "UPDATE tape SET written_ns = (SELECT max(?, coalesce(max(written_ns), 0)) FROM tape) WHERE uuid = ?",
                (now_ns, piece.tape_uuid),
            )

    def forget_pieces(self, archive_uuid: str, number: int) -> None:
        """Those of an archive from a number on are not on tape any more."""
        with self._changing():
            self._db.execute("DELETE FROM piece WHERE archive = ? AND number >= ?", (archive_uuid, number))

    def complete(self, archive_uuid: str) -> None:
        """All its pieces are on tape. Raises: DegradedError: a tape of it, or of what it goes on from, was retired or written over
        meanwhile; it has failed."""
        with self._changing():
            why = self._lacks(archive_uuid)
            if not why:
                self._db.execute("UPDATE archive SET state = 'complete', why = '' WHERE uuid = ?", (archive_uuid,))
        if why:
            self.failed(archive_uuid, why)
            raise DegradedError(f"archive {archive_uuid} is not complete: {why}", hint=ANEW)

    def failed(self, archive_uuid: str, why: str) -> None:
        """It is broken off; what pieces it has stay, for a resume. What is lost stays so."""
        with self._changing():
            self._db.execute(
                "UPDATE archive SET state = 'failed', why = ? WHERE uuid = ? AND state <> 'lost'", (why, archive_uuid)
            )

    def drop_archive(self, archive_uuid: str) -> None:
        """Nobody goes on with it. Its pieces stand on their tapes until those are written over; without any, nothing is left of it."""
        with self._changing():
            self._db.execute(
                "DELETE FROM archive WHERE uuid = ?1 AND NOT EXISTS (SELECT * FROM piece WHERE archive = ?1)",
                (archive_uuid,),
            )
            self._db.execute("UPDATE archive SET state = 'dropped', why = '' WHERE uuid = ?", (archive_uuid,))

    # What is where.

    def archives(self) -> list[ArchiveEntry]:
        """All, in the order in which they were made."""
        return self._archives("1", ())

    def archive(self, uuid: str) -> ArchiveEntry:
        """By its uuid, or the beginning of one that is the only such. Raises: NotFoundError."""
        found = self._archives("substr(uuid, 1, length(?1)) = ?1", (uuid,)) if uuid else []
        exact = [entry for entry in found if entry.uuid == uuid] or found
        if len(exact) > 1:
            raise NotFoundError(f"{len(exact)} archives begin with {uuid!r}", near=[entry.uuid for entry in exact[:3]])
        if not exact:
            raise NotFoundError(f"no archive {uuid!r} is in the catalog", hint="`vsnapfs archive list` shows all")
        return exact[0]

    def pieces(self, archive_uuid: str) -> list[PieceEntry]:
        """By number."""
        return self._pieces("archive = ? ORDER BY number", archive_uuid)

    def pieces_on(self, tape_uuid: str) -> list[PieceEntry]:
        """By tape file."""
        return self._pieces("tape_uuid = ? ORDER BY file", tape_uuid)

    def chain(self, archive_uuid: str) -> list[ArchiveEntry]:
        """The archive and those it needs, the full one first. Raises: NotFoundError: one is not known; IntegrityError: a circle."""
        with self.reading():
            return chains.chain({entry.uuid: entry for entry in self.archives()}, self.archive(archive_uuid))

    def tapes_of(self, archives: Sequence[ArchiveEntry]) -> list[TapeEntry]:
        """The tapes that hold their pieces, in the order in which they are read."""
        with self.reading():
            by_uuid = {tape.uuid: tape for tape in self.tapes()}
            uuids = dict.fromkeys(piece.tape_uuid for archive in archives for piece in self.pieces(archive.uuid))
        return [by_uuid[uuid] for uuid in uuids if uuid in by_uuid]

    def labels_by_archive(self) -> dict[str, list[str]]:
        """Of all archives: the labels of the tapes that hold their pieces, in the order in which they are read."""
        found: dict[str, list[str]] = {}
        with our_errors(f"read {self._name}"):
            for archive, label in self._db.execute(tables.LABELS):
                found.setdefault(archive, []).append(label)
        return found

    def copies(self, seqno: int) -> list[ArchiveEntry]:
        """Complete archives of a point of this repository whose whole chain is complete and on tapes that are not retired, oldest first."""
        wanted = (self._repository, seqno)
        return [entry for entry in self.standing() if (entry.repository, entry.point.seqno) == wanted]

    def standing(self) -> list[ArchiveEntry]:
        """Complete archives, of any point, whose whole chain is complete and on tapes that are not retired, oldest first."""
        with self.reading():
            return chains.standing(self.archives(), self._retired())

    def broken_off(self) -> list[ArchiveEntry]:
        """Archives, of any point, that can be gone on with, in the order in which they were made: no part of them is on a tape that is
        retired."""
        with self.reading():
            return chains.broken_off(self.archives(), self._retired())

    def _retired(self) -> set[str]:
        """uuids of archives with a piece on a tape that is retired."""
        retired = [tape.uuid for tape in self.tapes() if tape.state == "retired"]
        return {piece.archive for uuid in retired for piece in self.pieces_on(uuid)}

    def depending_on(self, tape_uuid: str) -> list[ArchiveEntry]:
        """Complete archives that count and need a piece on the tape, themselves or their chain."""
        with self.reading():
            on_it = {piece.archive for piece in self.pieces_on(tape_uuid)}
            by_uuid = {entry.uuid: entry for entry in self.archives()}
            return [each for each in self.standing() if on_it & {one.uuid for one in chains.chain(by_uuid, each)}]

    def _tapes(self, where: str, bound: tuple[Any, ...]) -> list[TapeEntry]:
        with our_errors(f"read {self._name}"):
            found = self._db.execute(f"{tables.TAPES} WHERE {where} GROUP BY uuid ORDER BY label", bound)
            return [tables.tape(row) for row in found]

    def _archives(self, where: str, bound: tuple[Any, ...]) -> list[ArchiveEntry]:
        with our_errors(f"read {self._name}"):
            found = self._db.execute(f"{tables.ARCHIVES} WHERE {where} GROUP BY uuid ORDER BY made, uuid", bound)
            return [tables.archive(row) for row in found]

    def _pieces(self, where: str, uuid: str) -> list[PieceEntry]:
        with our_errors(f"read {self._name}"):
            return [tables.piece(row) for row in self._db.execute(f"SELECT * FROM piece WHERE {where}", (uuid,))]

    def _lacks(self, archive_uuid: str) -> str:
        """What of an archive that was written to its end does not stand; "": nothing."""
        state, why = self._db.execute("SELECT state, why FROM archive WHERE uuid = ?", (archive_uuid,)).get
        if state == "lost":
            return str(why)
        retired = self._db.execute(
            "SELECT min(label) FROM piece JOIN tape ON uuid = tape_uuid WHERE archive = ? AND state = 'retired'",
            (archive_uuid,),
        ).get
        if retired is not None:
            return f"tape {retired} was retired"
        parent = self._db.execute("SELECT parent FROM archive WHERE uuid = ?", (archive_uuid,)).get
        if parent is not None and parent not in {entry.uuid for entry in self.standing()}:
            return f"archive {parent}, which it goes on from, does not count any more"
        numbers = [piece.number for piece in self.pieces(archive_uuid)]
        return "" if numbers and numbers == list(range(len(numbers))) else "a tape of it was written over"

    def _begin_tape(self, label: TapeLabel, *, force: bool) -> None:
        """Who wants the tape has looked at it some time ago: somebody may have said something else of it since."""
        found = self._tapes("label = ?", (label.label,))
        if found and found[0].uuid == label.uuid:
            return
        if found:
            (old,) = found
            if old.protected:
                hint = f"`vsnapfs tape protect {old.label} --off`"
                raise PermissionDeniedError(f"tape {old.label} is protected", hint=hint)
            if old.files > 1 and old.state != "retired" and not force:
                raise BusyError(f"tape {old.label} holds archives that count", hint="retire it, or use another")
            self._drop_tape(old.uuid, f"tape {label.label} was written over")
        fields = {name: getattr(label, name) for name in label.__struct_fields__ if name != "format"}
        self._insert("tape", [tables.tape_row(TapeEntry(**fields))], "")

"""``tapes.db``: which archive is on which tape, and what becomes of tapes. It is primary data: nothing but the tapes themselves tells
the same, so it is synced with every change, never made again on the quiet, and a damaged one is an error.

It can be had again by reading tapes (``tape scan``), which ends in ``merge``.

Concurrency: several processes may have it open; each change is one transaction, and waits for others. One thread for each object.

Source: docs/tape.md; tape_tables.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import msgspec

from vsnapfs.catalog import chains
from vsnapfs.catalog import tape_tables as tables
from vsnapfs.catalog.file import Place, connect, faults_of, our_errors, stands
from vsnapfs.core.errors import FormatUnknownError, IntegrityError, NotFoundError, VsnapfsError
from vsnapfs.core.names import near
from vsnapfs.core.tapes import ArchiveEntry, PieceEntry, TapeEntry, TapeLabel

BUSY_MS = 10_000
SCANNED = "`vsnapfs tape scan` reads tapes and makes it again, when this one has been moved away"


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody has read from tapes: entries as they would be in the catalog, complete pieces alone."""

    tapes: tuple[TapeEntry, ...]
    archives: tuple[ArchiveEntry, ...]
    pieces: tuple[PieceEntry, ...]


class Tapes:
    """The open catalog of tapes.

    Errors of all methods: IntegrityError: the file is damaged. FormatUnknownError: of a newer version. NoSpaceError, StoreError;
    BusyError: somebody else has been changing it for longer than 10 s.
    """

    def __init__(self, place: Place, repository: str, *, write: bool) -> None:
        """Without ``write`` nothing is made: where there is no file yet the catalog is empty. repository: its uuid."""
        self._name = str(place.path)
        exists = stands(place)
        with our_errors(f"open {self._name}"):
            self._db = connect(place if exists or write else None, make=not exists)
            self._db.set_busy_timeout(BUSY_MS)
        try:
            with our_errors(f"open {self._name}"):
                self._db.execute("PRAGMA synchronous = EXTRA")
                self._judge(repository)
        except VsnapfsError:
            self._db.close()
            raise

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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

    def begin_tape(self, label: TapeLabel) -> None:
        """A tape gets this label. What was known of the tape that had it is gone, and archives with a piece on that are lost."""
        with self._changing():
            self._begin_tape(label)

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
        its place. Raises: NotFoundError: the tape or the archive is not known."""
        with self._changing():
            known = self._db.execute(
                "SELECT (SELECT count(*) FROM tape WHERE uuid = ?) + (SELECT count(*) FROM archive WHERE uuid = ?)",
                (piece.tape_uuid, piece.archive),
            ).get
            if known != 2:
                raise NotFoundError(f"the tape or the archive of piece {piece.number} of {piece.archive} is not known")
            self._insert("piece", [tables.piece_row(piece)], "OR REPLACE")
            self._db.execute("UPDATE tape SET written_ns = ? WHERE uuid = ?", (now_ns, piece.tape_uuid))

    def forget_pieces(self, archive_uuid: str, number: int) -> None:
        """Those of an archive from a number on are not on tape any more."""
        with self._changing():
            self._db.execute("DELETE FROM piece WHERE archive = ? AND number >= ?", (archive_uuid, number))

    def complete(self, archive_uuid: str) -> None:
        """All its pieces are on tape."""
        self._set_archive(archive_uuid, "complete", "")

    def failed(self, archive_uuid: str, why: str) -> None:
        """It is broken off; what pieces it has stay, for a resume."""
        self._set_archive(archive_uuid, "failed", why)

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
        return chains.chain({entry.uuid: entry for entry in self.archives()}, self.archive(archive_uuid))

    def tapes_of(self, archives: Sequence[ArchiveEntry]) -> list[TapeEntry]:
        """The tapes that hold their pieces, in the order in which they are read."""
        by_uuid = {tape.uuid: tape for tape in self.tapes()}
        uuids = dict.fromkeys(piece.tape_uuid for archive in archives for piece in self.pieces(archive.uuid))
        return [by_uuid[uuid] for uuid in uuids if uuid in by_uuid]

    def copies(self, seqno: int) -> list[ArchiveEntry]:
        """Complete archives of the point whose whole chain is complete and on tapes that are not retired, oldest first."""
        return [entry for entry in self.standing() if entry.point.seqno == seqno]

    def standing(self) -> list[ArchiveEntry]:
        """Complete archives, of any point, whose whole chain is complete and on tapes that are not retired, oldest first."""
        retired = {tape.uuid for tape in self.tapes() if tape.state == "retired"}
        gone = {piece.archive for uuid in retired for piece in self.pieces_on(uuid)}
        return chains.standing(self.archives(), gone)

    def depending_on(self, tape_uuid: str) -> list[ArchiveEntry]:
        """Complete archives that count and need a piece on the tape, themselves or their chain."""
        on_it = {piece.archive for piece in self.pieces_on(tape_uuid)}
        by_uuid = {entry.uuid: entry for entry in self.archives()}
        return [each for each in self.standing() if on_it & {one.uuid for one in chains.chain(by_uuid, each)}]

    # What was read from tapes.

    def merge(self, found: Found) -> None:
        """Add what is not known. The same again changes nothing; what is known of a tape beyond its label (retired, protected)
        stays, and so does an archive that is complete. A label that stands on another tape in the catalog goes to the newer
        generation of the two."""
        with self._changing():
            for tape in found.tapes:
                self._merge_tape(tape)
            self._insert("archive", map(tables.archive_row, found.archives), "OR IGNORE")
            tapes = {uuid for (uuid,) in self._db.execute("SELECT uuid FROM tape")}
            pieces = [piece for piece in found.pieces if piece.tape_uuid in tapes]
            self._insert("piece", map(tables.piece_row, pieces), "OR IGNORE")
            for archive in found.archives:
                if archive.state == "complete":
                    self._db.execute(
                        "UPDATE archive SET state = 'complete', why = '' WHERE uuid = ? AND state <> 'complete'",
                        (archive.uuid,),
                    )

    def faults(self) -> list[str]:
        """What SQLite's own check finds; empty when the file is sound."""
        return faults_of(self._db)

    def _judge(self, repository: str) -> None:
        found = dict(self._db.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL"))
        if not found:
            with self._changing():
                self._make(repository)
            return
        self._judge_version(found, repository)
        if found != tables.TABLES:
            raise IntegrityError(f"{self._name}: its tables are not those of version {tables.VERSION}", hint=SCANNED)

    def _judge_version(self, found: dict[str, str], repository: str) -> None:
        row = self._db.execute("SELECT version, repository FROM meta").get if "meta" in found else None
        if row is None or not isinstance(row[0], int):
            raise IntegrityError(f"{self._name} is no catalog of tapes", hint=SCANNED)
        if row[0] > tables.VERSION:
            what = f"{self._name} is of version {row[0]}, this program knows {tables.VERSION}"
            raise FormatUnknownError(what, hint="use a newer vsnapfs")
        if row[1] != repository:
            raise IntegrityError(f"{self._name} is that of another repository, {row[1]}", hint=SCANNED)

    def _make(self, repository: str) -> None:
        if self._db.execute("SELECT count(*) FROM sqlite_schema").get:
            return  # another process was first
        for statement in tables.TABLES.values():
            self._db.execute(statement)
        self._insert("meta", [(1, tables.VERSION, repository)], "")

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """One transaction that has the right to write from its beginning on, so that what is read in it stays true."""
        with our_errors(f"write {self._name}"):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def _insert(self, table: str, rows: Iterable[tables.Row], conflict: str) -> None:
        for row in rows:
            self._db.execute(f"INSERT {conflict} INTO {table} VALUES ({', '.join('?' * len(row))})", row)

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

    def _set_archive(self, uuid: str, state: str, why: str) -> None:
        with self._changing():
            self._db.execute("UPDATE archive SET state = ?, why = ? WHERE uuid = ?", (state, why, uuid))

    def _begin_tape(self, label: TapeLabel) -> None:
        old = self._db.execute("SELECT uuid FROM tape WHERE label = ?", (label.label,)).get
        if old == label.uuid:
            return
        if old is not None:
            self._drop_tape(old, f"tape {label.label} was written over")
        fields = {name: getattr(label, name) for name in label.__struct_fields__ if name != "format"}
        self._insert("tape", [tables.tape_row(TapeEntry(**fields))], "")

    def _drop_tape(self, uuid: str, why: str) -> None:
        self._db.execute(
            "UPDATE archive SET state = 'lost', why = ? WHERE uuid IN (SELECT archive FROM piece WHERE tape_uuid = ?)",
            (why, uuid),
        )
        self._db.execute("DELETE FROM piece WHERE tape_uuid = ?", (uuid,))
        self._db.execute("DELETE FROM tape WHERE uuid = ?", (uuid,))

    def _merge_tape(self, tape: TapeEntry) -> None:
        known = self._db.execute("SELECT uuid, generation FROM tape WHERE label = ?", (tape.label,)).get
        if known is not None:
            uuid, generation = known
            if uuid == tape.uuid or generation >= tape.generation:
                return
            self._drop_tape(uuid, f"tape {tape.label} was written over")
        self._insert("tape", [tables.tape_row(tape)], "")

"""``tapes.db``: which archive is on which tape, and what becomes of tapes. It is primary data: nothing but the tapes themselves tells
the same, so it is synced with every change, never made again on the quiet, and a damaged one is an error.

It can be had again by reading tapes (``tape scan``), which ends in ``merge``.

Concurrency: several processes may have it open; each change is one transaction, and waits for others. One thread for each object.

Source: docs/tape.md; the tables below are the authority on what is in the file.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from vsnapfs.catalog.store import Place
from vsnapfs.core.tapes import ArchiveEntry, PieceEntry, TapeEntry, TapeLabel


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
        """Without ``write`` nothing is made or changed: where there is no file yet the catalog is empty. repository: its uuid."""
        raise NotImplementedError

    def close(self) -> None: ...

    # What becomes of tapes.

    def tapes(self) -> list[TapeEntry]:
        """All, by label; a label that stands on one tape alone."""
        raise NotImplementedError

    def tape(self, label: str) -> TapeEntry:
        """Raises: NotFoundError: with near labels."""
        raise NotImplementedError

    def begin_tape(self, label: TapeLabel) -> None:
        """A tape gets this label. What was known of the tape that had it is gone, and archives with a piece on that are lost."""
        raise NotImplementedError

    def set_full(self, tape_uuid: str) -> None:
        """Its end was met."""
        raise NotImplementedError

    def retire(self, label: str, now_ns: int) -> TapeEntry:
        """Nothing on it counts any more. Raises: NotFoundError."""
        raise NotImplementedError

    def protect(self, label: str, *, protected: bool) -> TapeEntry:
        """Nothing more is written to it, or may be again. Raises: NotFoundError."""
        raise NotImplementedError

    # What becomes of archives.

    def begin_archive(self, archive: ArchiveEntry) -> None:
        """It is under way. One of the same uuid goes on (resume)."""
        raise NotImplementedError

    def piece_done(self, piece: PieceEntry, now_ns: int) -> None:
        """A piece and its index are on the tape, durably. The same again changes nothing; another one of the same number takes
        its place."""
        raise NotImplementedError

    def complete(self, archive_uuid: str) -> None:
        """All its pieces are on tape."""
        raise NotImplementedError

    def failed(self, archive_uuid: str, why: str) -> None:
        """It is broken off; what pieces it has stay, for a resume."""
        raise NotImplementedError

    # What is where.

    def archives(self) -> list[ArchiveEntry]:
        """All, in the order in which they were made."""
        raise NotImplementedError

    def archive(self, uuid: str) -> ArchiveEntry:
        """By its uuid, or the beginning of one that is the only such. Raises: NotFoundError."""
        raise NotImplementedError

    def pieces(self, archive_uuid: str) -> list[PieceEntry]:
        """By number."""
        raise NotImplementedError

    def pieces_on(self, tape_uuid: str) -> list[PieceEntry]:
        """By tape file."""
        raise NotImplementedError

    def chain(self, archive_uuid: str) -> list[ArchiveEntry]:
        """The archive and those it needs, the full one first. Raises: NotFoundError: one is not known; IntegrityError: a circle."""
        raise NotImplementedError

    def tapes_of(self, archives: Sequence[ArchiveEntry]) -> list[TapeEntry]:
        """The tapes that hold their pieces, in the order in which they are read."""
        raise NotImplementedError

    def copies(self, seqno: int) -> list[ArchiveEntry]:
        """Complete archives of the point whose whole chain is complete and on tapes that are not retired, oldest first."""
        raise NotImplementedError

    def depending_on(self, tape_uuid: str) -> list[ArchiveEntry]:
        """Complete archives that need a piece on the tape, themselves or their chain."""
        raise NotImplementedError

    # What was read from tapes.

    def merge(self, found: Found) -> None:
        """Add what is not known. The same again changes nothing; what is known of a tape beyond its label (retired, protected)
        stays, and so does an archive that is complete."""
        raise NotImplementedError

    def faults(self) -> list[str]:
        """What SQLite's own check finds; empty when the file is sound."""
        raise NotImplementedError

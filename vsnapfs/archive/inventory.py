"""What stands on tapes, as their labels and indexes say it, or the catalog: which pieces of which archives are where.

Pure. One inventory may be of many tapes, in any order; what is told twice is known once.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from vsnapfs.archive.entries import archive_entry, piece_entry
from vsnapfs.archive.index import PieceBefore, PieceIndex
from vsnapfs.archive.manifest import Manifest
from vsnapfs.catalog.tapes import Found, Tapes
from vsnapfs.core.errors import IntegrityError
from vsnapfs.core.tapes import ArchiveEntry, PieceEntry, TapeEntry

NOT_WHOLE = "its last piece was not found"


class Inventory:
    """Concurrency: one thread."""

    def __init__(self) -> None:
        self.tapes: dict[str, TapeEntry] = {}
        """By uuid."""
        self.archives: dict[str, ArchiveEntry] = {}
        self.pieces: dict[tuple[str, int], PieceEntry] = {}
        """By archive and number."""
        self.totals: dict[str, int] = {}
        """How many pieces an archive has, where its last index was read."""
        self.before: dict[tuple[str, int], PieceBefore] = {}
        """Where a piece is, as the index of the one behind it says."""
        self.unindexed: dict[tuple[str, int], bool] = {}
        """Tape and file of pieces whose index cannot be read: nobody knows yet whose they are. False: there is none, and nothing
        behind it, so the piece never counted."""
        self.loose: dict[tuple[str, int], str] = {}
        """Of those, the directory of the member that they begin with or go on with."""

    def add_tape(self, tape: TapeEntry) -> None:
        self.tapes[tape.uuid] = tape

    def add_piece(self, index: PieceIndex, tape_uuid: str, file: int, index_bytes: int) -> None:
        """A piece, by its index, on a tape that was added. Of two copies the first one counts."""
        piece = msgspec.structs.replace(piece_entry(index, index_bytes), tape_uuid=tape_uuid, file=file)
        self.pieces.setdefault((index.archive, index.piece), piece)
        self.add_archive(index.manifest, self.tapes[tape_uuid].medium)
        if index.previous is not None:
            self.before[index.archive, index.piece - 1] = index.previous
        if index.last:
            self.totals[index.archive] = index.piece + 1
            self._set(index.archive, state="complete", why="")

    def add_archive(self, manifest: Manifest, medium: str) -> None:
        """One of which a part was seen."""
        if manifest.archive not in self.archives:
            entry = archive_entry(manifest, medium)
            self.archives[manifest.archive] = msgspec.structs.replace(entry, state="failed", why=NOT_WHOLE)

    def add_unindexed(self, tape_uuid: str, file: int, *, counted: bool) -> None:
        self.unindexed[tape_uuid, file] = counted

    def add_headless(self, manifest: Manifest, piece: PieceEntry) -> None:
        """The first piece of an archive, which has no index that can be read, by what it begins with."""
        self.add_archive(manifest, self.tapes[piece.tape_uuid].medium)
        self.unindexed.pop((piece.tape_uuid, piece.file), None)
        self.pieces.setdefault((manifest.archive, 0), piece)

    def add_loose(self, tape_uuid: str, file: int, member: str) -> None:
        """A piece without an index that can be read, by the member that it begins with, or goes on with."""
        self.loose[tape_uuid, file] = member.rpartition("/")[0]

    def pieces_of(self, archive: str) -> list[PieceEntry]:
        """By number."""
        return [self.pieces[key] for key in sorted(key for key in self.pieces if key[0] == archive)]

    def archive_on(self, tape_uuid: str, name: str) -> ArchiveEntry:
        """The one archive of a tape that is a file. name: for people. Raises: IntegrityError: none is there that can be understood."""
        found = [piece.archive for piece in self.pieces.values() if piece.tape_uuid == tape_uuid]
        if not found:
            raise IntegrityError(f"{name} holds no archive that can be understood")
        return self.archives[found[0]]

    def found(self) -> Found:
        """As the catalog of tapes takes it in: pieces that have their index alone."""
        whole = [piece for _, piece in sorted(self.pieces.items()) if piece.index_bytes]
        return Found(
            tapes=tuple(sorted(self.tapes.values(), key=lambda tape: (tape.label, tape.uuid))),
            archives=tuple(self._summed(archive) for archive in self.listed()),
            pieces=tuple(whole),
        )

    def listed(self) -> list[ArchiveEntry]:
        """Archives, in the order in which they were made."""
        return sorted(self.archives.values(), key=lambda archive: (archive.made, archive.uuid))

    def _summed(self, archive: ArchiveEntry) -> ArchiveEntry:
        pieces = [piece for piece in self.pieces_of(archive.uuid) if piece.index_bytes]
        whole = archive.uuid in self.totals and len(pieces) == self.totals[archive.uuid]
        return msgspec.structs.replace(
            archive,
            state="complete" if whole else "failed",
            why="" if whole else "not all of its pieces were found",
            pieces=len(pieces),
            stream_bytes=sum(piece.stream_bytes for piece in pieces),
            stored_bytes=sum(piece.stored_bytes for piece in pieces),
        )

    def _set(self, archive: str, *, state: str, why: str) -> None:
        self.archives[archive] = msgspec.structs.replace(self.archives[archive], state=state, why=why)


def of_catalog(tapes: Tapes) -> Inventory:
    """What the catalog knows. Raises: as the catalog does."""
    known = Inventory()
    with tapes.reading():
        for tape in tapes.tapes():
            known.add_tape(tape)
        for archive in tapes.archives():
            known.archives[archive.uuid] = archive
            pieces = tapes.pieces(archive.uuid)
            known.pieces |= {(piece.archive, piece.number): piece for piece in pieces}
            if archive.state == "complete":
                known.totals[archive.uuid] = len(pieces)
    return known


def labels_of(known: Inventory) -> Iterator[str]:
    return (tape.label for tape in known.tapes.values())

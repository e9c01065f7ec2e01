"""An archive read back from its tapes, and compared with what its indexes say."""

from __future__ import annotations

from collections.abc import Callable

from vsnapfs.archive.index import ChunkDigest, PieceIndex, decode
from vsnapfs.archive.position import content_of
from vsnapfs.catalog.tapes import Tapes
from vsnapfs.core.errors import IntegrityError, VsnapfsError
from vsnapfs.core.state import Progress
from vsnapfs.core.tapes import ArchiveEntry, PieceEntry
from vsnapfs.media.medium import Medium
from vsnapfs.media.tape import Tape, TapeReader
from vsnapfs.policy.media import BLOCK_BYTES_MAX

READ_BYTES = 1 << 20

Report = Callable[[Progress], None]


def verify(catalog: Tapes, medium: Medium, archive: ArchiveEntry, report: Report) -> None:
    """Read all pieces of an archive. Raises: IntegrityError: one is not as it was written; NotFoundError: a tape is not there."""
    with catalog.reading():
        labels = {tape.uuid: tape.label for tape in catalog.tapes()}
        pieces = catalog.pieces(archive.uuid)
    total = sum(piece.stored_bytes for piece in pieces)
    done = 0
    tape: Tape | None = None
    try:
        for piece in pieces:
            label = labels[piece.tape_uuid]
            if tape is None or tape.label is None or tape.label.label != label:
                if tape is not None:
                    tape.close()
                tape = medium.load(label)
            verify_piece(tape, piece)
            done += piece.stored_bytes
            report(Progress(what=f"verify {archive.point.bookmark or archive.uuid}", done=done, total=total))
    finally:
        if tape is not None:
            tape.close()


def verify_piece(tape: Tape, piece: PieceEntry) -> None:
    """Compare one. Raises: IntegrityError: names the piece and the tape."""
    what = f"piece {piece.number} of archive {piece.archive}, file {piece.file} of {tape.name},"
    try:
        if tape.label is None or tape.label.uuid != piece.tape_uuid:
            raise IntegrityError("it is another tape")
        index = decode(content_of(tape, piece.file + 1))
        if (index.archive, index.piece, index.sha256) != (piece.archive, piece.number, piece.sha256):
            raise IntegrityError("its index is of something else")
        reader = tape.open(piece.file)
        try:
            _compare(digest_of(reader, stored_bytes=index.stored_bytes), index)
        finally:
            reader.close()
    except VsnapfsError as error:
        raise IntegrityError(f"{what} was not read back as it was written: {error.message}") from error


def digest_of(reader: TapeReader, digest: ChunkDigest | None = None, stored_bytes: int | None = None) -> ChunkDigest:
    """Of what a reader has, to its end. stored_bytes: zeros behind those are what a drive's last block was filled up with.

    Raises: DamagedBlockError, StoreError.
    """
    digest = digest or ChunkDigest()
    buffer = memoryview(bytearray(READ_BYTES))
    behind = 0
    while count := reader.readinto(buffer):
        behind += count if stored_bytes is not None and digest.stored_bytes >= stored_bytes else 0
        if behind > BLOCK_BYTES_MAX:
            digest.update(buffer[:count])  # no block was filled up so far, and there may be no end
            break
        rest = count if stored_bytes is None else max(stored_bytes - digest.stored_bytes, 0)
        digest.update(buffer[: count if any(buffer[rest:count]) else min(count, rest)])
    return digest


def _compare(read: ChunkDigest, index: PieceIndex) -> None:
    if read.stored_bytes != index.stored_bytes:
        raise IntegrityError(f"{read.stored_bytes} bytes, not {index.stored_bytes}")
    if read.crc32c() != index.crc32c:
        raise IntegrityError("its checksums do not match")
    if read.sha256 != index.sha256:
        raise IntegrityError("its digest does not match")

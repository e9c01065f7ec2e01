"""Where on tape an archive goes on: behind its last piece that is whole, as the tape says, and not only the catalog.

A piece counts when its index is whole. A crash may have come between the index and the catalog, which then knows one less; a catalog
that was put back from a copy knows fewer; and a disk under a pool may have lost what it said it had.
"""

from __future__ import annotations

from contextlib import closing, suppress
from typing import NamedTuple

from vsnapfs.archive.entries import piece_entry
from vsnapfs.archive.index import PieceBefore, PieceIndex, decode
from vsnapfs.catalog.tapes import Tapes
from vsnapfs.core.errors import IntegrityError, NotFoundError
from vsnapfs.core.tapes import ArchiveEntry, PieceEntry
from vsnapfs.media.medium import Medium
from vsnapfs.media.tape import Tape

INDEX_BYTES_MAX = 1 << 32
READ_BYTES = 1 << 20


class Position(NamedTuple):
    """What comes next. ``tape``: loaded, to be written to behind all that counts on it; None: nothing more is to be written, or the next
    one is to be asked for."""

    number: int = 0
    offset_bytes: int = 0
    last: PieceIndex | None = None
    """The index of the piece before."""
    tape: Tape | None = None


def found(catalog: Tapes, medium: Medium, archive: ArchiveEntry, now_ns: int, *, fresh: bool) -> Position:
    """Where an archive goes on that was broken off. The catalog is told of pieces that the tape has and it has not, and the other way
    round. Other archives may stand behind its last piece: it goes on wherever the medium goes on.

    Args: fresh: an archive begins on a tape that holds nothing else.
    Raises: NotFoundError: the tape is not there. NoSpaceError: there is none to go on with.
    """
    position = _known(catalog, medium, archive, now_ns)
    catalog.forget_pieces(archive.uuid, position.number)
    if position.last is not None and position.last.last:
        return position
    tape = medium.next(catalog.tapes(), catalog.begin_tape, fresh=fresh and position.last is None)
    try:
        return _with_those_on(catalog, tape, archive, position, now_ns)._replace(tape=tape)
    except BaseException:
        tape.close()
        raise


def _known(catalog: Tapes, medium: Medium, archive: ArchiveEntry, now_ns: int) -> Position:
    """Behind the last piece of the catalog that is on its tape, and those that stand there behind it."""
    labels = {tape.uuid: tape.label for tape in catalog.tapes()}
    for piece in reversed(catalog.pieces(archive.uuid)):
        if piece.tape_uuid not in labels:
            continue
        with closing(medium.load(labels[piece.tape_uuid])) as tape:
            if (last := _standing(tape, piece)) is not None:
                return _behind(_those_behind(catalog, tape, last, now_ns))
    return Position()


def _with_those_on(catalog: Tapes, tape: Tape, archive: ArchiveEntry, position: Position, now_ns: int) -> Position:
    """The same behind what a tape, which is to be written to next, has of the archive and the catalog does not know."""
    assert tape.label is not None, "it was labelled when it was loaded"
    number = catalog.tape(tape.label.label).files
    while (index := index_at(tape, number + 1)) is not None:
        if (index.archive, index.piece, index.stream_offset) == (archive.uuid, *position[:2]):
            catalog.begin_archive(archive)
            catalog.piece_done(piece_entry(index, len_of(tape, number + 1)), now_ns)
            return _behind(_those_behind(catalog, tape, index, now_ns))
        number += 2
    return position


def _behind(last: PieceIndex) -> Position:
    return Position(last.piece + 1, last.stream_offset + last.stream_bytes, last)


def _standing(tape: Tape, piece: PieceEntry) -> PieceIndex | None:
    """The index of a piece, if it is on the tape as the catalog says."""
    if tape.label is None or tape.label.uuid != piece.tape_uuid:
        return None
    index = index_at(tape, piece.file + 1)
    if index is None or (index.archive, index.piece, index.sha256) != (piece.archive, piece.number, piece.sha256):
        return None
    return index


def _those_behind(catalog: Tapes, tape: Tape, last: PieceIndex, now_ns: int) -> PieceIndex:
    """The last piece that stands behind one without a gap, and of which the catalog is told."""
    while (index := index_at(tape, last.file + 3)) is not None:
        goes_on = (last.archive, last.piece + 1, last.file + 2, last.stream_offset + last.stream_bytes)
        if (index.archive, index.piece, index.file, index.stream_offset) != goes_on:
            break
        catalog.piece_done(piece_entry(index, len_of(tape, index.file + 1)), now_ns)
        last = index
    return last


def index_at(tape: Tape, number: int) -> PieceIndex | None:
    """The index that is tape file ``number``; None: there is no such file, or it is none."""
    with suppress(NotFoundError, IntegrityError):
        return decode(content_of(tape, number))
    return None


def len_of(tape: Tape, number: int) -> int:
    """Bytes of a tape file."""
    return len(content_of(tape, number))


def content_of(tape: Tape, number: int) -> bytes:
    """A tape file that is no piece, whole. Raises: NotFoundError, IntegrityError, StoreError."""
    reader = tape.open(number)
    try:
        content, buffer = bytearray(), memoryview(bytearray(READ_BYTES))
        while count := reader.readinto(buffer):
            content += buffer[:count]
            if len(content) > INDEX_BYTES_MAX:
                raise IntegrityError(f"file {number} of {tape.name} is no index: it is too long")
        return bytes(content)
    finally:
        reader.close()


def before(index: PieceIndex | None) -> PieceBefore | None:
    """A piece as the next one's index names it."""
    if index is None:
        return None
    return PieceBefore(tape=index.tape, tape_uuid=index.tape_uuid, file=index.file, sha256=index.sha256)

"""Tapes that are asked for their files: an answer that says something of what stands there is one thing, none at all another.

A drive that fails, a tape that somebody else holds, a command that ends with an error: nobody knows then what stands on the tape. Another
copy may have it, or the same one later on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vsnapfs.archive.damage import NO_INDEX, Damage, Flaw
from vsnapfs.archive.given import GivenTapes
from vsnapfs.archive.index import PieceIndex
from vsnapfs.archive.placing import Placed
from vsnapfs.archive.reading import StoredPiece, read_index
from vsnapfs.core.errors import FormatUnknownError, IntegrityError, NotFoundError, UsageError, VsnapfsError
from vsnapfs.core.tapes import TapeLabel
from vsnapfs.media.tape import Tape, TapeReader, Waiting, Writable

ANSWERS = (IntegrityError, FormatUnknownError, UsageError)


class UnansweredError(Exception):
    """``error``: what was met in place of an answer."""

    def __init__(self, error: VsnapfsError) -> None:
        super().__init__(str(error))
        self.error = error


@contextmanager
def asking() -> Iterator[None]:
    """Raises: UnansweredError, in place of what is no answer."""
    try:
        yield
    except ANSWERS:
        raise
    except VsnapfsError as error:
        raise UnansweredError(error) from error


class AskedTape:
    """A tape of which files are read. See reading.Files."""

    def __init__(self, tape: Tape) -> None:
        self.name = tape.name
        self.label: TapeLabel | None = tape.label
        self._tape = tape

    def open(self, number: int) -> TapeReader:
        """Raises: UnansweredError, also where the file is not there."""
        with asking():
            return _AskedReader(self._tape.open(number))


class _AskedReader:
    """See media.tape.TapeReader."""

    def __init__(self, reader: TapeReader) -> None:
        self._reader = reader

    def readinto(self, buffer: Writable) -> int:
        """Raises: DamagedBlockError, UnansweredError."""
        with asking():
            return self._reader.readinto(buffer)

    def give_up(self) -> None:
        """See media.tape.Waiting."""
        reader: object = self._reader
        if isinstance(reader, Waiting):
            reader.give_up()

    def close(self) -> None:
        self._reader.close()


class AskedPieces:
    """Pieces of one archive, and their indexes. Concurrency: one thread."""

    def __init__(self, given: GivenTapes, count: int, damage: Damage) -> None:
        """count: how many pieces there are. damage: is told of what is wrong with indexes and labels."""
        self._given, self._count, self._damage = given, count, damage
        self._silent: dict[str, UnansweredError] = {}
        """Tapes that could not be had, by uuid: they are not asked for again."""

    def index(self, piece: Placed) -> PieceIndex | None:
        """None: it cannot be read, or is another one's."""
        assert piece.entry is not None
        assert piece.tape is not None
        if not piece.entry.index_bytes:  # that was seen when the tape was looked at; a file alone needs none
            if self._count > 1 and not self._damage.is_flawed(piece.label, piece.entry.file + 1):
                self._damage.flaw(Flaw(tape=piece.label, file=piece.entry.file + 1, why=NO_INDEX))
            return None
        tape = self._tape(piece)
        if tape.problem is not None and not self._damage.is_flawed(piece.label, 0):
            self._damage.flaw(Flaw(tape=piece.label, file=0, why=tape.problem.message))
        try:
            index, _ = read_index(AskedTape(tape), piece.entry.file + 1)
        except UnansweredError as error:
            if not isinstance(error.error, NotFoundError):
                raise
            self._damage.flaw(Flaw(tape=piece.label, file=piece.entry.file + 1, why=NO_INDEX))
            return None
        except (IntegrityError, FormatUnknownError) as error:
            self._damage.flaw(Flaw(tape=piece.label, file=piece.entry.file + 1, why=error.message))
            return None
        if (index.archive, index.piece) != (piece.entry.archive, piece.number):
            why = f"the index is that of piece {index.piece} of archive {index.archive[:8]}"
            self._damage.flaw(Flaw(tape=piece.label, file=piece.entry.file + 1, why=why))
            return None
        return index

    def stored(self, piece: Placed, index: PieceIndex | None, damage: Damage) -> StoredPiece:
        assert piece.entry is not None
        return StoredPiece(AskedTape(self._tape(piece)), piece.entry.file, index, damage)

    def _tape(self, piece: Placed) -> Tape:
        """Raises: UnansweredError."""
        assert piece.tape is not None
        if piece.tape.uuid in self._silent:
            raise self._silent[piece.tape.uuid]
        try:
            with asking():
                return self._given.tape(piece.tape)
        except UnansweredError as error:
            self._silent[piece.tape.uuid] = error
            raise

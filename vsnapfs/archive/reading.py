"""A piece as a tape has it: each chunk compared with its checksum, decrypted, decompressed, and where in the stream it belongs.

What cannot be read, or is not as it was written, is given as lost and named; reading goes on behind it. Of a piece that is
compressed or encrypted all behind the first loss is lost: nothing in it can be understood without what was before.

Source: docs/tape-format.md, sections on pieces and on the index.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from vsnapfs.archive.coding import decoded
from vsnapfs.archive.damage import Damage, Flaw
from vsnapfs.archive.index import (
    CHUNK_BYTES,
    Compression,
    DamagedIndexError,
    Encryption,
    PieceIndex,
    crcs_of,
    damaged_chunks,
    decode,
)
from vsnapfs.core.errors import IntegrityError
from vsnapfs.core.tapes import TapeLabel
from vsnapfs.media.tape import DamagedBlockError, TapeReader, Waiting

READ_BYTES = 1 << 20
CHUNK_BYTES_MAX = 16 << 20
INDEX_BYTES_MAX = 512 << 20
"""Maps of a volume with ten million runs, twice over."""
BLOCK_BYTES = 256 << 10
"""Of a tape whose label cannot be read."""
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
AGE_MAGIC = b"age-encryption.org/v1"


class Run(NamedTuple):
    """Bytes of a piece, in order, from an offset on. content: None: they are lost. Each has memory of its own."""

    offset_bytes: int
    length_bytes: int
    content: memoryview | None

    @property
    def end_bytes(self) -> int:
        return self.offset_bytes + self.length_bytes


def read_index(tape: Files, file: int) -> tuple[PieceIndex, int]:
    """The index in a tape file, and its bytes. Raises: NotFoundError: the tape ends before. DamagedIndexError, FormatUnknownError."""
    content = bytearray()
    reader = tape.open(file)
    try:
        while True:
            part = bytearray(READ_BYTES)
            got = reader.readinto(part)
            if not got:
                break
            content += memoryview(part)[:got]
            if len(content) > INDEX_BYTES_MAX or b"\n" not in content[:200]:
                raise DamagedIndexError("a tape file is no index")
    except DamagedBlockError as error:
        raise DamagedIndexError(f"an index cannot be read: {error.message}") from error
    finally:
        reader.close()
    index = decode(content.rstrip(b"\0"))  # a drive with blocks of one length fills the last with zeros
    if index.chunk_bytes > CHUNK_BYTES_MAX or index.stream_bytes < 0:
        raise DamagedIndexError("an index speaks of chunks that nobody writes")
    return index, len(content)


class Files(Protocol):
    """What of a tape a piece is read from. See media.tape.Tape."""

    @property
    def name(self) -> str: ...

    @property
    def label(self) -> TapeLabel | None: ...

    def open(self, number: int) -> TapeReader: ...


class StoredPiece:
    """The tape file of a piece, read once. index: None: it has none that can be read, and nothing is compared.

    Args: damage: is told of what is not as it was written. Concurrency: one thread.
    """

    def __init__(self, tape: Files, file: int, index: PieceIndex | None, damage: Damage) -> None:
        self.tape_name = tape.label.label if tape.label is not None else tape.name
        self.file = file
        self.index = index
        self._tape, self._damage = tape, damage
        self._block_bytes = tape.label.block_bytes if tape.label is not None else BLOCK_BYTES
        self._crcs = b"" if index is None else crcs_of(index)
        self._chunk_bytes = CHUNK_BYTES if index is None else index.chunk_bytes
        self._missing_bytes = 0
        """Of a block that could not be read, what is behind the buffer."""
        self._reader: TapeReader | None = None
        self._is_given_up = False

    def flaw(self, why: str, offset_bytes: int = 0, length_bytes: int = 0) -> None:
        self._damage.flaw(
            Flaw(tape=self.tape_name, file=self.file, offset_bytes=offset_bytes, length_bytes=length_bytes, why=why)
        )

    def runs(self) -> Iterator[Run]:
        """As it is stored. Raises: StoreError; NotFoundError: the tape has no such file."""
        self._reader = reader = self._tape.open(self.file)
        try:
            if not self._is_given_up:
                yield from self._joined(self._read(reader))
        finally:
            reader.close()

    def give_up(self) -> None:
        """Nobody wants what is read any more: a read that waits for a program ends, with an error. Threads: any."""
        self._is_given_up = True
        reader: object = self._reader
        if isinstance(reader, Waiting):
            reader.give_up()

    def _read(self, reader: TapeReader) -> Iterator[Run]:
        at, end = 0, None if self.index is None else self.index.stored_bytes
        while True:
            buffer = memoryview(bytearray(max(1, READ_BYTES // self._chunk_bytes) * self._chunk_bytes))
            filled, unread = self._fill(reader, buffer)
            if not filled:
                break
            if end is not None and at + filled > end:
                self._refuse_rest(buffer[max(0, end - at) : filled], end)
                filled = max(0, end - at)
                yield from self._compared(at, buffer[:filled], unread)
                return  # what is behind may have no end
            yield from self._compared(at, buffer[:filled], unread)
            at += filled
        if end is not None and at < end:
            self.flaw("the tape file ends before its piece does", at, end - at)
            yield Run(at, end - at, None)

    def _refuse_rest(self, rest: memoryview, end: int) -> None:
        """What is behind the end of the piece: a block that was filled up, or nobody knows what."""
        if len(rest) >= self._block_bytes or any(rest):
            self.flaw("something follows the piece in its tape file", end, len(rest))

    def _fill(self, reader: TapeReader, buffer: memoryview) -> tuple[int, list[tuple[int, int]]]:
        """Returns: the bytes that the buffer stands for, less than its length only at the end of the file, and which of them could
        not be read."""
        done, unread = 0, list[tuple[int, int]]()
        while done < len(buffer):
            if self._missing_bytes:
                taken = min(self._missing_bytes, len(buffer) - done)
                unread.append((done, done + taken))
                done, self._missing_bytes = done + taken, self._missing_bytes - taken
                continue
            try:
                got = reader.readinto(buffer[done:])
            except DamagedBlockError as error:
                self._missing_bytes = error.length_bytes or self._block_bytes
                continue
            if not got:
                break
            done += got
        return done, unread

    def _compared(self, at: int, content: memoryview, unread: list[tuple[int, int]]) -> Iterator[Run]:
        """A run of whole chunks, those that are not right as lost."""
        chunk, first = self._chunk_bytes, at // self._chunk_bytes
        bad = {
            number: "cannot be read" for a, b in unread for number in range((at + a) // chunk, -(-(at + b) // chunk))
        }
        if self.index is not None and len(content):
            for number in damaged_chunks(content, self._crcs, first, chunk):
                bad.setdefault(number, "does not match its checksum")
        good_from = 0
        for number in sorted(number for number in bad if (number - first) * chunk < len(content)):
            start = (number - first) * chunk
            end = min(start + chunk, len(content))
            if good_from < start:
                yield Run(at + good_from, start - good_from, content[good_from:start])
            self.flaw(bad[number], at + start, end - start)
            yield Run(at + start, end - start, None)
            good_from = end
        if good_from < len(content):
            yield Run(at + good_from, len(content) - good_from, content[good_from:])

    @staticmethod
    def _joined(runs: Iterator[Run]) -> Iterator[Run]:
        """Losses that touch are one."""
        lost: Run | None = None
        for run in runs:
            if lost is not None and run.content is None:
                lost = Run(lost.offset_bytes, lost.length_bytes + run.length_bytes, None)
                continue
            if lost is not None:
                yield lost
            lost = run if run.content is None else None
            if run.content is not None:
                yield run
        if lost is not None:
            yield lost


def plain_runs(piece: StoredPiece, identities: Sequence[Path]) -> Generator[Run]:
    """A piece decrypted and decompressed, as far as that goes; by offset in what it was before. A last run without content may be
    of length 0: nobody knows how much is lost.

    Raises: UsageError: it is encrypted, and none of the identities is for it. NotFoundError: the program age.
    """
    runs = piece.runs()
    first = next(runs, None)
    if first is None:
        return
    compression, encryption = _coding_of(piece.index, first)
    if compression is None and encryption is None:
        yield first
        yield from runs
        return
    sound = _Sound(first, runs)
    wanted = 0 if piece.index is None else piece.index.plain_bytes
    at = 0
    try:
        for content in _decoded(sound, piece.index, compression, encryption, identities):
            if piece.index is not None and at + len(content) > wanted:
                raise IntegrityError("a piece holds more than its index says")
            yield Run(at, len(content), memoryview(content))
            at += len(content)
    except IntegrityError as error:
        if not sound.has_lost:
            piece.flaw(error.message)
    sound.drain()
    if wanted > at or sound.has_lost:
        yield Run(at, max(0, wanted - at), None)


def _coding_of(index: PieceIndex | None, first: Run) -> tuple[Compression | None, Encryption | None]:
    """Without an index, by how the piece begins."""
    if index is not None:
        return index.compression, index.encryption
    start = b"" if first.content is None else bytes(first.content[: len(AGE_MAGIC)])
    return ("zstd" if start.startswith(ZSTD_MAGIC) else None), ("age" if start == AGE_MAGIC else None)


def _decoded(
    chunks: Iterable[memoryview],
    index: PieceIndex | None,
    compression: Compression | None,
    encryption: Encryption | None,
    identities: Sequence[Path],
) -> Iterator[bytes | memoryview]:
    """Without an index it shows behind the encryption whether it is compressed too."""
    if index is not None or encryption is None:
        return decoded(chunks, compression, encryption, identities)
    decrypted = decoded(chunks, None, encryption, identities)
    first = next(decrypted, b"")
    inner: Compression | None = "zstd" if bytes(first[: len(ZSTD_MAGIC)]) == ZSTD_MAGIC else None
    return decoded(itertools.chain([first], decrypted), inner, None)


class _Sound:
    """The contents of a stored piece up to its first loss."""

    def __init__(self, first: Run, runs: Iterator[Run]) -> None:
        self._runs = itertools.chain([first], runs)
        self.has_lost = False

    def __iter__(self) -> Iterator[memoryview]:
        for run in self._runs:
            if run.content is None:
                self.has_lost = True
                return
            yield run.content

    def drain(self) -> None:
        """Read the rest, so that what is wrong with it is named too."""
        for run in self._runs:
            self.has_lost |= run.content is None


def behind(runs: Iterator[Run], head_bytes: int) -> Iterator[Run]:
    """What follows the first bytes of a piece, by offset from there."""
    for run in runs:
        skipped = max(0, min(head_bytes - run.offset_bytes, run.length_bytes))
        if skipped == run.length_bytes and run.length_bytes:
            continue
        content = None if run.content is None else run.content[skipped:]
        yield Run(run.offset_bytes + skipped - head_bytes, run.length_bytes - skipped, content)

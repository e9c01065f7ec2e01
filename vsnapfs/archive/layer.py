"""One archive of a chain, laid onto what a recall has made so far: each byte of its stream to where it belongs, or named as lost.

What the archive holds is known from an index before its data are read; a damaged head of the stream costs nothing then.

Source: docs/recall.md; docs/tape-format.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple, Protocol

from vsnapfs.archive.ahead import ahead
from vsnapfs.archive.asking import AskedPieces, UnansweredError
from vsnapfs.archive.contents import Contents
from vsnapfs.archive.damage import UNSURE, Damage, Flaw, Lost
from vsnapfs.archive.given import GivenTapes
from vsnapfs.archive.heads import looked_at, walk
from vsnapfs.archive.placing import Placed, Step
from vsnapfs.archive.readback import Where, read_back
from vsnapfs.archive.reading import Run, StoredPiece, behind, plain_runs
from vsnapfs.archive.tar import Continuation, parse_sums
from vsnapfs.core.errors import IntegrityError, NotFoundError

MISSING = "the tape with this piece is missing"


class Options(NamedTuple):
    """identities: files of private keys. verify: read back and compare with the digests. salvage: go on without what is missing."""

    identities: tuple[Path, ...] = ()
    verify: bool = True
    salvage: bool = False


class Target(Protocol):
    """What archives are laid onto: a landing, or a part of one."""

    @property
    def damage(self) -> Damage: ...

    def wants(self, volume: str) -> bool: ...

    def write(self, volume: str, offset_bytes: int, content: memoryview) -> None: ...

    def zero(self, volume: str, offset_bytes: int, length_bytes: int) -> None: ...

    def readinto(self, volume: str, offset_bytes: int, buffer: memoryview) -> None: ...

    def forget_cache(self, volume: str) -> None: ...


class Layer:
    """One archive of a chain, and its bytes onto what is there."""

    def __init__(self, step: Step, given: GivenTapes, landing: Target, options: Options, done_bytes: int = 0) -> None:
        """done_bytes: of its stream, by a try before."""
        self._step, self._landing, self._options = step, landing, options
        self._damage: Damage = landing.damage
        self._asked = AskedPieces(given, len(step.pieces), landing.damage)
        self._contents: Contents | None = None
        self._sums = bytearray()
        self._digests: dict[str, str] = {}
        self.done_bytes = done_bytes
        """Of the stream, all before it is here or named as lost."""
        self._has_given_up = False

    @property
    def pieces(self) -> tuple[Placed, ...]:
        return self._step.pieces

    def contents(self) -> Contents:
        """By the first index that has them, or the last, or the stream itself.

        Raises: IntegrityError: what the archive holds is lost. UnansweredError.
        """
        if self._contents is None:
            self._contents = self._by_index() or self._by_stream()
        return self._contents

    def _by_index(self) -> Contents | None:
        there = [piece for piece in self._step.pieces if piece.entry is not None and piece.entry.index_bytes]
        silent: UnansweredError | None = None
        for piece in list(dict.fromkeys(there[:1] + there[-1:])):
            try:
                index = self._asked.index(piece)
            except UnansweredError as error:
                silent = error
                continue
            if index is not None and index.maps is not None:
                self._digests |= index.digests
                return Contents.of_index(index, self._landing.readinto)
        if silent is not None:
            raise silent
        return None

    def _by_stream(self) -> Contents:
        try:
            walked = walk(self._stream())
        except IntegrityError as error:
            raise IntegrityError(
                f"what archive {self._step.archive.uuid[:8]} holds is lost: {error.message}",
                hint="an older point may be recalled without it",
            ) from error
        return Contents(walked.manifest, walked.maps, self._landing.readinto)

    def _stream(self) -> Iterator[Run]:
        """The stream as its pieces have it, without continuations."""
        for piece in self._step.pieces:
            if piece.entry is None:
                raise IntegrityError(MISSING)
            index = self._asked.index(piece)
            runs: Iterator[Run] = plain_runs(self._asked.stored(piece, index, Damage()), self._options.identities)
            if index is not None:
                yield from behind(runs, index.head_bytes)
            elif piece.number == 0:
                yield from runs
            else:
                head, head_bytes, runs = looked_at(runs)
                yield from behind(runs, head_bytes if isinstance(head, Continuation) else 0)

    def clear(self) -> None:
        """What became zeros."""
        for volume, found in self.contents().maps.items():
            if self._landing.wants(volume):
                for offset_bytes, length_bytes in found.zeros:
                    self._landing.zero(volume, offset_bytes, length_bytes)
                    self._damage.mend(volume, offset_bytes, length_bytes)

    def piece(self, piece: Placed) -> None:
        """All of one piece, as far as it can be read. Raises: UnansweredError; what was read until then is here."""
        if piece.entry is None:
            return  # what lies between the pieces that are there is lost
        try:
            self._read(piece)
        except NotFoundError as error:
            if not self._options.salvage:
                raise
            self._damage.flaw(Flaw(tape=piece.label, file=piece.entry.file, why=error.message))
        except IntegrityError as error:  # nobody knows where it belongs
            self._damage.flaw(Flaw(tape=piece.label, file=piece.entry.file, why=error.message))

    def skip(self, piece: Placed) -> None:
        """A piece that nothing is wanted of. What of the stream is before it and was not read is lost."""
        assert piece.entry is not None
        self._lose_up_to(piece.entry.stream_offset, piece, MISSING)
        self.done_bytes = max(self.done_bytes, piece.entry.stream_offset + piece.entry.stream_bytes)

    def _read(self, piece: Placed) -> None:
        assert piece.entry is not None
        index = self._asked.index(piece)
        stored = self._asked.stored(piece, index, self._damage)
        runs: Iterator[Run] = plain_runs(stored, self._options.identities)
        start, head = piece.entry.stream_offset, 0
        if index is not None:
            start, head = index.stream_offset, index.head_bytes
            self._digests |= index.digests
        else:
            runs, start, head = self._placed(piece, runs)
        self._lose_up_to(start, piece, MISSING)
        with closing(ahead(behind(runs, head), stored.give_up)) as found:
            for run in found:
                self._take(start, run, stored, sure=index is not None)
        wanted = piece.entry.stream_bytes
        self._lose_up_to(start + wanted, piece, "it is not in the piece")

    def _placed(self, piece: Placed, runs: Iterator[Run]) -> tuple[Iterator[Run], int, int]:
        """Where a piece without an index belongs: behind the one before it, or where it says itself. Raises: IntegrityError."""
        assert piece.entry is not None
        contents = self.contents()
        known = piece.entry.stream_offset if piece.number else 0
        if known >= 0:
            return runs, known, contents.head_bytes(known, piece.number)
        head, head_bytes, runs = looked_at(runs)
        if isinstance(head, Continuation):
            return runs, contents.offset_of(head.name, head.left_bytes), head_bytes
        if head is None:
            raise IntegrityError("a piece begins with nothing that says where it belongs")
        return runs, contents.offset_of_member(head.name), 0

    def _take(self, start: int, run: Run, stored: StoredPiece, *, sure: bool) -> None:
        """A run of the piece's stream, which begins at ``start``."""
        at = start + run.offset_bytes
        if run.content is None:
            self._lose(at, run.length_bytes, stored.tape_name, stored.file, "it cannot be read")
            self.done_bytes = max(self.done_bytes, at + run.length_bytes)
            return
        for part in self.contents().parts(at, run.length_bytes):
            content = run.content[part.at : part.at + part.length_bytes]
            if part.volume is not None and self._landing.wants(part.volume):
                self._land(part.volume, part.member.extents.places(part.inside, part.length_bytes), content)
                if not sure:
                    self._doubt(part.volume, part.member.extents.places(part.inside, part.length_bytes), stored)
            elif part.member is self.contents().stream.members[-1] and 0 <= part.inside < part.member.data_bytes:
                self._sums += content
        self.done_bytes = max(self.done_bytes, at + run.length_bytes)

    def _land(self, volume: str, places: Iterator[tuple[int, int]], content: memoryview) -> None:
        done = 0
        for offset_bytes, length_bytes in places:
            self._landing.write(volume, offset_bytes, content[done : done + length_bytes])
            self._damage.mend(volume, offset_bytes, length_bytes)
            done += length_bytes

    def _doubt(self, volume: str, places: Iterator[tuple[int, int]], stored: StoredPiece) -> None:
        for offset_bytes, length_bytes in places:
            self._damage.lose(
                Lost(
                    volume=volume,
                    offset_bytes=offset_bytes,
                    length_bytes=length_bytes,
                    tape=stored.tape_name,
                    file=stored.file,
                    why=UNSURE,
                    zeros=False,
                )
            )

    def _lose_up_to(self, offset_bytes: int, piece: Placed, why: str) -> None:
        if self.done_bytes < offset_bytes:
            file = piece.entry.file if piece.entry is not None else -1
            self._lose(self.done_bytes, offset_bytes - self.done_bytes, piece.label, file, why)
            self.done_bytes = offset_bytes

    def _lose(self, at: int, length_bytes: int, tape: str, file: int, why: str) -> None:
        """A run of the stream is lost: what it holds of volumes becomes zeros and is named."""
        for part in self.contents().parts(at, length_bytes):
            if part.volume is None or not self._landing.wants(part.volume):
                continue
            for offset_bytes, run_bytes in part.member.extents.places(part.inside, part.length_bytes):
                self._landing.zero(part.volume, offset_bytes, run_bytes)
                self._damage.mend(part.volume, offset_bytes, run_bytes)
                self._damage.lose(
                    Lost(
                        volume=part.volume,
                        offset_bytes=offset_bytes,
                        length_bytes=run_bytes,
                        tape=tape,
                        file=file,
                        why=why,
                    )
                )

    def give_up(self, piece: Placed, error: UnansweredError) -> None:
        """A piece that there was no answer for. What was not read of it is lost."""
        assert piece.entry is not None
        self._has_given_up = True
        self._damage.flaw(Flaw(tape=piece.label, file=piece.entry.file, why=error.error.message))
        if piece.entry.stream_offset >= 0:
            self._lose_up_to(piece.entry.stream_offset, piece, MISSING)
            self._lose_up_to(piece.entry.stream_offset + piece.entry.stream_bytes, piece, error.error.message)

    def end(self) -> None:
        """All pieces were read: what is not here of the stream is lost."""
        pieces = self._step.pieces
        last = pieces[-1] if pieces else Placed(0, None, None, "")
        self._lose_up_to(self.contents().length_bytes, last, "the archive ends before")

    def verify(self) -> None:
        """Read back what was recalled, and compare it with the digests of the archive."""
        last = self._step.pieces[-1]
        where = Where(last.label, last.entry.file if last.entry is not None else -1)
        read_back(self.contents(), self._landing, self._said(), where)

    def sums_sha256(self) -> str:
        """SHA-256 of SHA256SUMS; "": it could not be read."""
        text = self._sums_text()
        return hashlib.sha256(text).hexdigest() if text else ""

    def _said(self) -> dict[str, str]:
        """Digests of the members: as SHA256SUMS has them, or else the indexes."""
        try:
            found = parse_sums(self._sums_text())
        except IntegrityError:
            found = {}
        return self._digests | found

    def _sums_text(self) -> bytes:
        """SHA256SUMS as it was read, or as the last index has it again: a try before this one may have read it. b"": neither."""
        if len(self._sums) == self.contents().stream.members[-1].data_bytes:
            return bytes(self._sums)
        last = self._step.pieces[-1]
        try:
            index = None if last.entry is None else self._asked.index(last)
        except UnansweredError:
            if not self._has_given_up:
                raise
            index = None
        return b"" if index is None or index.sums is None else index.sums.encode()

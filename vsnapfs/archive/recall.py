"""Recall: what a chain of archives holds, from tape into a directory of images.

One archive after the other, piece by piece, in the order in which they were written. What was read is on stable storage before the next
piece begins, and each archive is read back and compared with its digests before the next one is laid onto it.

Source: docs/recall.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from vsnapfs.archive.chain import Placed, Plan, Step
from vsnapfs.archive.contents import Contents
from vsnapfs.archive.damage import Damage, Flaw, Lost
from vsnapfs.archive.heads import Reader, begins_with, walk
from vsnapfs.archive.index import PieceIndex
from vsnapfs.archive.landing import Landing
from vsnapfs.archive.manifest import SUMS
from vsnapfs.archive.reading import Run, StoredPiece, plain_runs, read_index
from vsnapfs.archive.shelf import Shelf
from vsnapfs.archive.tar import Continuation, parse_sums
from vsnapfs.core.errors import FormatUnknownError, IntegrityError, NotFoundError
from vsnapfs.core.state import Progress

Report = Callable[[Progress], None]
MISSING = "the tape with this piece is missing"
UNSURE = "the index of the piece is lost, and nothing says whether these bytes are right"
SUMS_BYTES_MAX = 64 << 20


class Options(NamedTuple):
    """identities: files of private keys. verify: read back and compare with the digests. salvage: go on without what is missing."""

    identities: tuple[Path, ...] = ()
    verify: bool = True
    salvage: bool = False


class Recalled(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    archives: tuple[str, ...]
    images: dict[str, str]
    """Path by volume."""
    resumed: bool
    verified: bool
    flaws: list[Flaw]
    lost: list[Lost]


class Recall:
    """One recall of a plan into a landing, which stay the caller's. Concurrency: one thread."""

    def __init__(self, plan: Plan, shelf: Shelf, landing: Landing, options: Options, report: Report) -> None:
        self._plan, self._shelf, self._landing, self._options = plan, shelf, landing, options
        self._report = report
        self._damage = landing.damage
        self._done_bytes = 0
        self._total_bytes = sum(p.entry.stored_bytes for step in plan.steps for p in step.pieces if p.entry)

    def run(self) -> Recalled:
        """Raises: NotFoundError: something is missing, before the first byte where that can be known then. UsageError: a key.
        NoSpaceError, StoreError, BusyError: what is done stays, for a resume."""
        if not self._options.salvage:
            self._plan.require_whole()
        begun = self._landing.state
        for number in range(begun.step, len(self._plan.steps)):
            self._archive(number, begun.piece if number == begun.step else 0)
        images = self._landing.finish()
        return Recalled(
            archives=begun.archives,
            images={path.name: str(path) for path in images},
            resumed=self._landing.is_resumed,
            verified=self._options.verify,
            flaws=self._damage.flaws,
            lost=self._damage.lost(),
        )

    def _archive(self, number: int, first: int) -> None:
        step = self._plan.steps[number]
        layer = Layer(step, self._shelf, self._landing, self._options)
        contents = layer.contents()
        self._landing.begin(contents.manifest)
        layer.clear()
        for piece in step.pieces[first:]:
            layer.piece(piece)
            self._landing.settle(number, piece.number + 1)
            self._done_bytes += piece.entry.stored_bytes if piece.entry else 0
            self._report(Progress(what="recall", done=self._done_bytes, total=self._total_bytes))
        layer.end()
        if self._options.verify:
            layer.verify()
        self._landing.settle(number + 1, 0)


class Layer:
    """One archive of a chain, and its bytes onto what is there."""

    def __init__(self, step: Step, shelf: Shelf, landing: Landing, options: Options) -> None:
        self._step, self._shelf, self._landing, self._options = step, shelf, landing, options
        self._damage: Damage = landing.damage
        self._contents: Contents | None = None
        self._sums = bytearray()
        self._digests: dict[str, str] = {}
        self._at = 0
        """Of the stream, all before it is here or named as lost."""

    def contents(self) -> Contents:
        """By the first index that has them, or the last, or the stream itself.

        Raises: IntegrityError: what the archive holds is lost. NotFoundError: a tape.
        """
        if self._contents is None:
            self._contents = self._by_index() or self._by_stream()
        return self._contents

    def _by_index(self) -> Contents | None:
        there = [piece for piece in self._step.pieces if piece.entry is not None and piece.entry.index_bytes]
        for piece in list(dict.fromkeys(there[:1] + there[-1:])):
            index = self._index(piece)
            if index is not None and index.maps is not None:
                self._digests |= index.digests
                return Contents.of_index(index, self._landing.readinto)
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
            index = self._index(piece)
            runs = plain_runs(self._stored(piece, index, Damage()), self._options.identities)
            if index is not None:
                yield from _behind(runs, index.head_bytes)
            elif piece.number == 0:
                yield from runs
            else:
                kept = list(runs)  # at most one piece, and only where no index at all can be read
                reader = Reader(iter(kept))
                head = reader.taken_bytes if isinstance(begins_with(reader), Continuation) else 0
                yield from _behind(iter(kept), head)

    def clear(self) -> None:
        """What became zeros."""
        for volume, found in self.contents().maps.items():
            if self._landing.wants(volume):
                for offset_bytes, length_bytes in found.zeros:
                    self._landing.zero(volume, offset_bytes, length_bytes)
                    self._damage.mend(volume, offset_bytes, length_bytes)

    def piece(self, piece: Placed) -> None:
        """All of one piece, as far as it can be read."""
        if piece.entry is None:
            return  # what lies between the pieces that are there is lost
        try:
            self._read(piece)
        except NotFoundError as error:
            if not self._options.salvage:
                raise
            self._damage.flaw(Flaw(tape=piece.label, file=piece.entry.file, why=error.message))

    def _read(self, piece: Placed) -> None:
        assert piece.entry is not None
        index = self._index(piece)
        stored = self._stored(piece, index, self._damage)
        runs = plain_runs(stored, self._options.identities)
        start, head = piece.entry.stream_offset, 0
        if index is not None:
            start, head = index.stream_offset, index.head_bytes
            self._digests |= index.digests
        else:
            runs, start, head = self._placed(piece, runs)
        self._lose_up_to(start, piece, MISSING)
        for run in _behind(runs, head):
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
        kept = list(runs)
        reader = Reader(iter(kept))
        head = begins_with(reader)
        if isinstance(head, Continuation):
            return iter(kept), contents.offset_of(head.name, head.left_bytes), reader.taken_bytes
        if head is None:
            raise IntegrityError("a piece begins with nothing that says where it belongs")
        return iter(kept), contents.offset_of_member(head.name), 0

    def _take(self, start: int, run: Run, stored: StoredPiece, *, sure: bool) -> None:
        """A run of the piece's stream, which begins at ``start``."""
        at = start + run.offset_bytes
        if run.content is None:
            self._lose(at, run.length_bytes, stored.tape_name, stored.file, "it cannot be read")
            self._at = max(self._at, at + run.length_bytes)
            return
        for part in self.contents().parts(at, run.length_bytes):
            content = run.content[part.at : part.at + part.length_bytes]
            if part.volume is not None and self._landing.wants(part.volume):
                self._land(part.volume, part.member.extents.places(part.inside, part.length_bytes), content)
                if not sure:
                    self._doubt(part.volume, part.member.extents.places(part.inside, part.length_bytes), stored)
            elif part.member is self.contents().stream.members[-1] and 0 <= part.inside < part.member.data_bytes:
                self._sums += content
        self._at = max(self._at, at + run.length_bytes)

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
        if self._at < offset_bytes:
            file = piece.entry.file if piece.entry is not None else -1
            self._lose(self._at, offset_bytes - self._at, piece.label, file, why)
            self._at = offset_bytes

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

    def end(self) -> None:
        """All pieces were read: what is not here of the stream is lost."""
        pieces = self._step.pieces
        last = pieces[-1] if pieces else Placed(0, None, None, "")
        self._lose_up_to(self.contents().length_bytes, last, "the archive ends before")

    def verify(self) -> None:
        """Read back what was recalled, and compare it with the digests of the archive. What was only in doubt is known then."""
        sums = self._said()
        for volume in self.contents().manifest.volumes:
            lost = self._damage.lost(volume.name)
            if not self._landing.wants(volume.name) or any(one.zeros for one in lost):
                continue
            self._landing.forget_cache(volume.name)
            wrong = [name for name, digest in self.contents().digests(volume.name) if sums.get(name, digest) != digest]
            if not wrong and all(name in sums for name, _ in self._names(volume.name)):
                self._damage.sure(volume.name)
            elif wrong and not lost:
                self._doubt_all(volume.name, volume.size_bytes, wrong)

    def _names(self, volume: str) -> list[tuple[str, str]]:
        return list(self.contents().digests(volume))

    def _doubt_all(self, volume: str, size_bytes: int, wrong: list[str]) -> None:
        last = self._step.pieces[-1]
        file = last.entry.file if last.entry is not None else -1
        why = f"the digest of {' and '.join(wrong)} is another one than the archive says"
        lost = Lost(
            volume=volume, offset_bytes=0, length_bytes=size_bytes, tape=last.label, file=file, why=why, zeros=False
        )
        self._damage.lose(lost)

    def _said(self) -> dict[str, str]:
        """Digests of the members: as SHA256SUMS has them, or else the indexes."""
        try:
            found = parse_sums(bytes(self._sums))
        except IntegrityError:
            found = {}
        return self._digests | found

    def _index(self, piece: Placed) -> PieceIndex | None:
        """None: it cannot be read, or is another one's."""
        assert piece.entry is not None
        assert piece.tape is not None
        tape = self._shelf.tape(piece.tape)
        try:
            index, _ = read_index(tape, piece.entry.file + 1)
        except (IntegrityError, FormatUnknownError, NotFoundError) as error:
            self._damage.flaw(Flaw(tape=piece.label, file=piece.entry.file + 1, why=error.message))
            return None
        if (index.archive, index.piece) != (piece.entry.archive, piece.number):
            why = f"the index is that of piece {index.piece} of archive {index.archive[:8]}"
            self._damage.flaw(Flaw(tape=piece.label, file=piece.entry.file + 1, why=why))
            return None
        return index

    def _stored(self, piece: Placed, index: PieceIndex | None, damage: Damage) -> StoredPiece:
        assert piece.entry is not None
        assert piece.tape is not None
        return StoredPiece(self._shelf.tape(piece.tape), piece.entry.file, index, damage)


def _behind(runs: Iterator[Run], head_bytes: int) -> Iterator[Run]:
    """What follows the first bytes of a piece, by offset from there."""
    for run in runs:
        skipped = max(0, min(head_bytes - run.offset_bytes, run.length_bytes))
        if skipped == run.length_bytes and run.length_bytes:
            continue
        content = None if run.content is None else run.content[skipped:]
        yield Run(run.offset_bytes + skipped - head_bytes, run.length_bytes - skipped, content)


def plan_lines(plan: Plan) -> list[str]:
    """What a recall needs, for people: before it begins."""
    kinds = [f"{step.archive.kind} archive {step.archive.uuid[:8]}" for step in plan.steps]
    labels = [tape.label for tape in plan.tapes]
    return [f"{len(plan.steps)} archive{'s' if len(kinds) > 1 else ''}: {', then '.join(kinds)}",
            f"tapes, in this order: {', '.join(labels)}"]


def wanted_volumes(names: Sequence[str]) -> tuple[str, ...]:
    """As a landing takes them."""
    return tuple(sorted(set(names)))

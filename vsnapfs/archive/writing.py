"""An archive onto tapes: piece by piece, each with its index, from a tape to the next.

A piece counts when its index is on the tape; then the catalog is told. So whatever ends this, what counts is a beginning of the
archive, and the rest can be written behind it (position.py).

Source: docs/tape-format.md, sections on pieces and on the index.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vsnapfs.archive.entries import piece_entry
from vsnapfs.archive.feed import Feed
from vsnapfs.archive.index import PieceIndex, encode
from vsnapfs.archive.output import Pace
from vsnapfs.archive.pieces import Flow, Where, index_of, write_piece
from vsnapfs.archive.position import Position, before
from vsnapfs.archive.room import piece_room
from vsnapfs.archive.stream import Cut
from vsnapfs.archive.sums import SummedStream
from vsnapfs.catalog.tapes import Tapes
from vsnapfs.core.errors import NoSpaceError, VsnapfsError
from vsnapfs.core.state import Progress
from vsnapfs.core.tapes import ArchiveEntry
from vsnapfs.core.units import format_size
from vsnapfs.media.medium import Medium
from vsnapfs.media.tape import EndOfTapeError, FileKind, Tape

Report = Callable[[Progress], None]
Clock = Callable[[], int]
"""Nanoseconds since 1970."""
INTERRUPTED = "it was interrupted"


@contextmanager
def under_way(catalog: Tapes, entry: ArchiveEntry) -> Iterator[None]:
    """The catalog knows that an archive was begun, and why, where it fails. Complete it is when the catalog is told."""
    catalog.begin_archive(entry)
    try:
        yield
    except BaseException as error:
        catalog.failed(entry.uuid, str(error) if isinstance(error, VsnapfsError) else INTERRUPTED)
        raise


def teller(stream: SummedStream, done_bytes: int, report: Report) -> Callable[[int], None]:
    """Reports how far an archive is, told of bytes of its stream behind ``done_bytes``."""

    def told(length_bytes: int) -> None:
        nonlocal done_bytes
        done_bytes += length_bytes
        report(Progress(what=f"archive of {stream.manifest.name}", done=done_bytes, total=stream.length_bytes))

    return told


class Archiver:
    """One archive being written to the tapes of a medium.

    Concurrency: one thread; those that it starts end with ``write``. An exception, KeyboardInterrupt too, ends it where it is.
    """

    def __init__(
        self, stream: SummedStream, medium: Medium, catalog: Tapes, flow: Flow, *, piece_bytes: int, clock: Clock
    ) -> None:
        """piece_bytes: about so much of the stream is a piece. clock: what the catalog is told."""
        self._stream = stream
        self._medium = medium
        self._catalog = catalog
        self._flow = flow
        self._piece_bytes = piece_bytes
        self._clock = clock
        self._pace = Pace(flow.rate_bytes)
        self._tape: Tape | None = None
        self._feed: Feed | None = None
        self.stored_bytes = 0
        """Written to tapes, that counts."""

    def write(self, position: Position, report: Report, *, fresh: bool = False) -> None:
        """The archive from a position on, to its end. fresh: it begins on a tape that holds nothing else.

        Raises: NoSpaceError: no tape can be written to, or the disk is full. As sources, codings and media do.
        """
        self._tape = position.tape
        at, number, last = position.offset_bytes, position.number, position.last
        try:
            while at < self._stream.length_bytes:
                tape, cut = self._next_cut(at, number, fresh=fresh and number == 0)
                try:
                    last = self._piece(tape, cut, number, last, report)
                except EndOfTapeError as error:
                    self._turn(tape, error)
                    continue
                at += cut.length_bytes
                number += 1
        finally:
            self._end()

    def _next_cut(self, at: int, number: int, *, fresh: bool) -> tuple[Tape, Cut]:
        """The tape that has room for a piece, and the piece."""
        while True:
            tape = self._tape = self._tape or self._load(fresh=fresh)
            cut = self._stream.cut(at, number, self._piece_bytes)
            room = piece_room(tape, self._flow.coding, self._stream.maps)
            if room is not None and len(cut.head) + cut.length_bytes > room:
                cut = self._stream.cut(at, number, max(room - len(cut.head), 1))
            if room is None or len(cut.head) + cut.length_bytes <= room:
                return tape, cut
            self._leave(tape, f"the least that can be one is {format_size(len(cut.head) + cut.length_bytes)}")

    def _load(self, *, fresh: bool) -> Tape:
        return self._medium.next(self._catalog.tapes(), self._catalog.begin_tape, fresh=fresh)

    def _leave(self, tape: Tape, why: str) -> None:
        """It is full. Raises: NoSpaceError: nothing was on it: then the next one has no room either."""
        assert tape.label is not None, "it was labelled when it was loaded"
        if self._catalog.tape(tape.label.label).files <= 1:
            raise NoSpaceError(f"no piece has room on {tape.name}: {why}", hint="use tapes of a greater capacity")
        self._catalog.set_full(tape.label.uuid)
        tape.close()
        self._tape = None

    def _turn(self, tape: Tape, error: EndOfTapeError) -> None:
        """The end came before it was foreseen: the piece is written again, whole, on the next tape."""
        self._stop_feeding()
        self._leave(tape, error.message)

    def _piece(self, tape: Tape, cut: Cut, number: int, last: PieceIndex | None, report: Report) -> PieceIndex:
        assert tape.label is not None, "it was labelled when it was loaded"
        writer = tape.append(FileKind.PIECE, self._flow.coding.extension)
        try:
            digest = write_piece(
                self._feeding(cut, report),
                cut,
                writer,
                self._flow,
                self._pace,
                teller(self._stream, cut.offset_bytes, report),
            )
            file = writer.finish()
        finally:
            writer.abandon()
        index = index_of(self._stream, cut, Where(number, tape.label, file, before(last)), digest, self._flow.coding)
        self._write_index(tape, index)
        return index

    def _write_index(self, tape: Tape, index: PieceIndex) -> None:
        """Raises: EndOfTapeError: the piece does not count then, and is gone."""
        content = encode(index)
        try:
            writer = tape.append(FileKind.INDEX)
            try:
                writer.write(content)
                writer.finish()
            finally:
                writer.abandon()
        except EndOfTapeError:
            tape.cut(index.file - 1)
            raise
        self._catalog.piece_done(piece_entry(index, len(content)), self._clock())
        self.stored_bytes += index.stored_bytes

    def _feeding(self, cut: Cut, report: Report) -> Feed:
        if self._feed is None:
            what = f"digests of {self._stream.manifest.name} again"

            def caught_up(at: int) -> None:
                report(Progress(what=what, done=at, total=cut.offset_bytes))

            self._feed = Feed(self._stream, cut.offset_bytes, self._flow.buffer_bytes, caught_up)
        return self._feed

    def _stop_feeding(self) -> None:
        if self._feed is not None:
            self._feed.close()
            self._feed = None

    def _end(self) -> None:
        self._stop_feeding()
        if self._tape is not None:
            self._tape.close()
            self._tape = None

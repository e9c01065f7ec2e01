"""A piece on its way to a tape, or to a file: cut, coded, given digests, and written."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import NamedTuple

from vsnapfs.archive.coding import Blocks, Coding, encoded
from vsnapfs.archive.feed import Feed, kept
from vsnapfs.archive.index import CHUNK_BYTES, ChunkDigest, PieceBefore, PieceIndex, encode_maps
from vsnapfs.archive.output import Output, Pace, Writable
from vsnapfs.archive.stream import Cut
from vsnapfs.archive.sums import SummedStream
from vsnapfs.core.tapes import TapeLabel

Told = Callable[[int], None]
"""Is told of bytes of the stream that are on their way."""


class Flow(NamedTuple):
    """How it is written."""

    coding: Coding = Coding()
    buffer_bytes: int = 64 << 20
    fill_bytes: int = 0
    """So much is gathered before a first write and after an underrun, for a drive; 0: nothing is waited for."""
    rate_bytes: int | None = None


class Where(NamedTuple):
    """Of a piece: which it is, and on which tape. label: None: on none."""

    number: int
    label: TapeLabel | None
    file: int
    previous: PieceBefore | None


def write_piece(
    feed: Feed, cut: Cut, target: Writable, flow: Flow, pace: Pace, told: Told, digest: ChunkDigest | None = None
) -> ChunkDigest:
    """Write the next piece of what is fed. digest: of what is there of it already.

    Returns: that of all of it. Raises: as sources, codings and the target do.
    """
    digest = digest or ChunkDigest()
    output = Output(target, pace, buffer_bytes=flow.buffer_bytes, fill_bytes=flow.fill_bytes)
    try:
        with closing(encoded(_plain(feed, cut, told), flow.coding)) as blocks:
            for block in blocks:
                digest.update(block.memory)
                output.put(block)
        output.end()
    finally:
        output.abandon()
    return digest


def _plain(feed: Feed, cut: Cut, told: Told) -> Blocks:
    if cut.head:
        yield kept(cut.head)
    for block in feed.take(cut.length_bytes):
        told(len(block.memory))
        yield block


def index_of(stream: SummedStream, cut: Cut, where: Where, digest: ChunkDigest, coding: Coding) -> PieceIndex:
    """What stands behind a piece that was written."""
    manifest = stream.manifest
    last = cut.offset_bytes + cut.length_bytes == stream.length_bytes
    return PieceIndex(
        archive=manifest.archive,
        repository=manifest.repository,
        kind=manifest.kind,
        point=manifest.point,
        since=manifest.since,
        parent=manifest.parent,
        made=manifest.made,
        piece=where.number,
        pieces=where.number + 1 if last else None,
        last=last,
        tape=where.label.label if where.label else "",
        tape_uuid=where.label.uuid if where.label else "",
        file=where.file,
        stream_offset=cut.offset_bytes,
        stream_bytes=cut.length_bytes,
        head_bytes=len(cut.head),
        plain_bytes=len(cut.head) + cut.length_bytes,
        stored_bytes=digest.stored_bytes,
        continues=cut.member,
        compression=coding.compression,
        encryption=coding.encryption,
        sha256=digest.sha256,
        chunk_bytes=CHUNK_BYTES,
        crc32c=digest.crc32c(),
        previous=where.previous,
        manifest=manifest,
        layout=stream.layout,
        digests=stream.digests_to(cut.offset_bytes + cut.length_bytes),
        maps=encode_maps(stream.maps) if last or where.number == 0 else None,
        sums=stream.sums_text().decode() if last else None,
    )

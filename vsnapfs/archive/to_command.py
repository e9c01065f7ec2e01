"""A point to a command: one stream, whole or not at all, and what the catalog knows of it.

A run that was broken off is never gone on with: the command was killed, and gets the whole of it again.

Source: docs/tape.md, section on commands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import NamedTuple

from vsnapfs.archive import coding
from vsnapfs.archive.entries import archive_entry, piece_entry
from vsnapfs.archive.feed import Feed
from vsnapfs.archive.index import ChunkDigest, encode
from vsnapfs.archive.manifest import Manifest
from vsnapfs.archive.output import Pace
from vsnapfs.archive.pieces import Flow, Where, index_of, write_piece
from vsnapfs.archive.source import Source
from vsnapfs.archive.stream import Cut
from vsnapfs.archive.streams import stream_tape
from vsnapfs.archive.sums import SummedStream
from vsnapfs.archive.verifying import verify_piece
from vsnapfs.archive.writing import INTERRUPTED, Clock, Report, teller, under_way
from vsnapfs.catalog.tapes import Tapes
from vsnapfs.core.errors import UsageError
from vsnapfs.core.model import Point
from vsnapfs.core.tapes import ArchiveEntry, TapeLabel
from vsnapfs.media.choice import next_label
from vsnapfs.media.command import PIECE, CommandWriter
from vsnapfs.media.label import new_label
from vsnapfs.policy.media import CommandSettings

Sources = Callable[[], AbstractContextManager[Sequence[Source]]]


class Target(NamedTuple):
    """A medium of kind command, and the repository that it is of."""

    name: str
    settings: CommandSettings
    repository: Path
    catalog: Tapes
    flow: Flow
    clock: Clock
    verify: bool = False


def to_command(target: Target, manifest: Manifest, sources: Sources, report: Report) -> tuple[ArchiveEntry, str]:
    """Have the command take an archive. manifest: without its volumes. Returns: the archive, and the label of what it took.

    Raises: UsageError: it cannot be verified. StoreError: the command failed. As sources and codings do.
    """
    if target.verify and not target.settings.read:
        hint = "leave out --verify, or give a command that does"
        raise UsageError(f"[media.{target.name}] has no `read`, so nothing can be read back", hint=hint)
    coding.require(target.flow.coding)
    _forget_broken_off(target)
    with sources() as opened:
        stream = SummedStream(manifest, list(opened))
        entry = archive_entry(stream.manifest, target.name)
        label = _label(target)
        with under_way(target.catalog, entry):
            target.catalog.begin_tape(label)
            try:
                _run(target, stream, label, report)
            except BaseException:
                if not target.catalog.pieces(entry.uuid):
                    target.catalog.forget_tape(label.label)
                raise
    target.catalog.set_full(label.uuid)
    target.catalog.complete(entry.uuid)
    return target.catalog.archive(entry.uuid), label.label


def told_of(target: Target, manifest: Manifest, label: str) -> dict[str, str]:
    """What the command is told, by the names in policy.media.COMMAND_WORDS."""
    return {
        "label": label,
        "archive": manifest.archive,
        "kind": manifest.kind,
        "point": _name(manifest.point),
        "since": "" if manifest.since is None else _name(manifest.since),
        "seqno": str(manifest.point.seqno),
        "time": manifest.point.time,
        "bookmark": manifest.point.bookmark or "",
        "extension": target.flow.coding.extension,
        "medium": target.name,
        "repo": str(target.repository),
    }


def _name(point: Point) -> str:
    return point.bookmark or f"@{point.seqno}"


def _label(target: Target) -> TapeLabel:
    taken = [tape.label for tape in target.catalog.tapes()]
    name = next_label(target.settings.labels, taken)
    return new_label(name, target.name, target.settings.block_bytes, target.clock())


def _forget_broken_off(target: Target) -> None:
    """What a process that was killed has left: nothing counts of that, and nobody else writes to this medium now."""
    for tape in target.catalog.tapes():
        if tape.medium == target.name and tape.state == "open" and tape.files == 1 and not tape.protected:
            target.catalog.forget_tape(tape.label)
    for archive in target.catalog.archives():
        if archive.medium == target.name and archive.state == "under way":
            target.catalog.failed(archive.uuid, INTERRUPTED)


def _run(target: Target, stream: SummedStream, label: TapeLabel, report: Report) -> None:
    told = told_of(target, stream.manifest, label.label)
    cut = Cut(0, stream.length_bytes, None, b"")
    feed = Feed(stream, 0, target.flow.buffer_bytes)
    try:
        digest = _written(target, told, feed, cut, teller(stream, 0, report))
    finally:
        feed.close()
    index = index_of(stream, cut, Where(0, label, PIECE, None), digest, target.flow.coding)
    content = encode(index)
    target.catalog.keep(label.uuid, told, content)
    piece = piece_entry(index, len(content))
    target.catalog.piece_done(piece, target.clock())
    if target.verify:
        tape = target.catalog.tape(label.label)
        with closing(stream_tape(target.catalog, tape, target.settings, target.repository)) as written:
            verify_piece(written, piece)


def _written(target: Target, told: dict[str, str], feed: Feed, cut: Cut, teller: Callable[[int], None]) -> ChunkDigest:
    writer = CommandWriter(target.name, target.settings, told)
    try:
        digest = write_piece(feed, cut, writer, target.flow, Pace(target.flow.rate_bytes), teller)
        writer.finish()
        return digest
    finally:
        writer.abandon()

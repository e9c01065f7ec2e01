"""What is on a tape, by reading its label and its indexes; pieces are passed over.

A piece whose index cannot be read may still be whose it is: what stands beside it tells (chain.py), or it begins with the manifest of
its archive. One that has no index at all is what an archive that was broken off has left, unless something shows that it counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from vsnapfs.archive.damage import NO_INDEX, Damage, Flaw
from vsnapfs.archive.entries import first_piece
from vsnapfs.archive.given import GivenTapes, Slot, Unread
from vsnapfs.archive.heads import looked_at, manifest_at_start
from vsnapfs.archive.index import PieceIndex
from vsnapfs.archive.inventory import Inventory
from vsnapfs.archive.manifest import MANIFEST
from vsnapfs.archive.reading import BLOCK_BYTES, StoredPiece, plain_runs, read_index
from vsnapfs.core.errors import FormatUnknownError, IntegrityError, NotFoundError, VsnapfsError
from vsnapfs.core.tapes import TapeEntry
from vsnapfs.core.times import parse_iso
from vsnapfs.media.tape import FileKind, Tape


class Seen(NamedTuple):
    """A piece on a tape, and its index. ``said`` None: it has none that can be read; ``why``: what is wrong with that. ``is_there``:
    the piece itself."""

    file: int
    said: PieceIndex | None
    index_bytes: int
    why: str
    is_there: bool = True


def look(
    given: GivenTapes, damage: Damage, identities: Sequence[Path] = (), unread: list[Unread] | None = None
) -> Inventory:
    """All tapes of a given. unread: gets those that do not answer, which are none to fail of then.

    Raises: BusyError, StoreError; UsageError: an archive is encrypted to somebody else.
    """
    known = Inventory()
    for slot in given.slots:
        try:
            with given.opened(slot) as tape:
                given.remember(look_at(tape, slot, known, damage, identities), slot)
        except VsnapfsError as error:
            if unread is None:
                raise
            unread.append(Unread(slot.label or slot.place, error))
    return known


def look_at(tape: Tape, slot: Slot, known: Inventory, damage: Damage, identities: Sequence[Path]) -> str:
    """Add what stands on one tape. Returns: its uuid, by its label or else by its indexes."""
    pieces = list(seen_on(tape))
    entry = entry_of(tape, slot, pieces)
    if entry.uuid in known.tapes:
        return entry.uuid  # a copy of one that was looked at
    known.add_tape(entry)
    if tape.label is None and slot.label is not None:
        damage.flaw(Flaw(tape=entry.label, file=0, why="the label cannot be read"))
    for number, piece in enumerate(pieces):
        if piece.said is not None:
            _take(tape, piece, piece.said, entry, known, damage)
            continue
        counted = bool(piece.why) or number + 1 < len(pieces)
        if counted:
            why = piece.why or NO_INDEX
            damage.flaw(Flaw(tape=entry.label, file=piece.file + 1, why=why))
        known.add_unindexed(entry.uuid, piece.file, counted=counted)
        _begin(tape, piece.file, entry, known, identities)
    return entry.uuid


def seen_on(tape: Tape) -> Iterator[Seen]:
    """Pieces, in order."""
    files = tape.files()
    if files is None:
        yield from _seen_on_drive(tape)
        return
    pieces = {file.number for file in files if file.kind is FileKind.PIECE}
    indexes = {file.number for file in files if file.kind is FileKind.INDEX}
    for number in sorted(pieces | {number - 1 for number in indexes}):
        if number + 1 in indexes:
            yield _read(tape, number)._replace(is_there=number in pieces)
        else:
            yield Seen(number, None, 0, "")


def _seen_on_drive(tape: Tape) -> Iterator[Seen]:
    """Pieces and indexes take turns behind the label, up to the end."""
    number = 1
    while True:
        try:
            yield _read(tape, number)
        except NotFoundError:
            break
        number += 2
    try:
        tape.open(number).close()
    except NotFoundError:
        return
    yield Seen(number, None, 0, "")


def _read(tape: Tape, number: int) -> Seen:
    try:
        index, length = read_index(tape, number + 1)
    except (IntegrityError, FormatUnknownError) as error:
        return Seen(number, None, 0, error.message)
    return Seen(number, index, length, "")


def entry_of(tape: Tape, slot: Slot, pieces: Sequence[Seen]) -> TapeEntry:
    """The tape as the catalog knows it. One whose label cannot be read is what its first index calls it; else what its place does."""
    indexes = [piece.said for piece in pieces if piece.said is not None]
    counting = [piece.file + 2 for piece in pieces if piece.said is not None]
    label, first = tape.label, indexes[0] if indexes else None
    name = slot.label or slot.place
    made = max((parse_iso(index.made) for index in indexes), default=None)
    return TapeEntry(
        label=label.label if label is not None else first.tape if first is not None and first.tape else name,
        uuid=label.uuid if label is not None else first.tape_uuid if first is not None and first.tape_uuid else name,
        medium="" if label is None else label.medium,
        generation=1 if label is None else label.generation,
        block_bytes=BLOCK_BYTES if label is None else label.block_bytes,
        made=label.made if label is not None else first.made if first is not None else "",
        written_ns=made,
        files=max(counting, default=1),
        used_bytes=tape.used_bytes or sum(index.stored_bytes for index in indexes),
        note="" if label is None else label.note,
    )


def _take(tape: Tape, piece: Seen, index: PieceIndex, entry: TapeEntry, known: Inventory, damage: Damage) -> None:
    if tape.label is not None and (index.tape_uuid, index.file) != (entry.uuid, piece.file):
        why = f"the index is that of file {index.file} of tape {index.tape} ({index.tape_uuid[:8]})"
        damage.flaw(Flaw(tape=entry.label, file=piece.file + 1, why=why))
        return
    if not piece.is_there:
        damage.flaw(Flaw(tape=entry.label, file=piece.file, why="the piece is missing, and its index is there"))
    known.add_piece(index, entry.uuid, piece.file, piece.index_bytes)


def _begin(tape: Tape, file: int, entry: TapeEntry, known: Inventory, identities: Sequence[Path]) -> None:
    """An archive may begin with this piece, and its manifest says which; or its first member does, in part."""
    try:
        head, _, runs = looked_at(plain_runs(StoredPiece(tape, file, None, Damage()), identities))
        if head is not None and not head.name.endswith(f"/{MANIFEST}"):
            known.add_loose(entry.uuid, file, head.name)
            return
        manifest = manifest_at_start(runs)
    except VsnapfsError:
        return  # it is somebody else's, or is damaged too
    piece = first_piece(manifest, entry.uuid, file)
    known.add_headless(manifest, piece)

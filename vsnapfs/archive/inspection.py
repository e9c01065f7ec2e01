"""Whole tapes read and compared with what they say of themselves: the label, each index, each piece; and with the catalog.

Source: docs/recall.md, section on verifying.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

import msgspec

from vsnapfs.archive.ahead import ahead
from vsnapfs.archive.damage import NO_INDEX, Damage, Flaw
from vsnapfs.archive.given import GivenTapes, Slot, Unread
from vsnapfs.archive.index import PieceIndex
from vsnapfs.archive.inventory import Inventory
from vsnapfs.archive.reading import StoredPiece
from vsnapfs.archive.scan import Seen, entry_of, seen_on
from vsnapfs.core.errors import NotFoundError, VsnapfsError
from vsnapfs.core.names import near
from vsnapfs.core.state import Progress
from vsnapfs.core.tapes import TapeEntry
from vsnapfs.media.tape import Tape

Report = Callable[[Progress], None]


class Inspected(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one tape."""

    label: str
    uuid: str
    pieces: int
    """With their index."""
    stored_bytes: int
    """Read of them."""
    broken_off: bool
    """A piece stands behind them that never counted: an archive was broken off there."""
    flaws: list[Flaw]

    @property
    def is_sound(self) -> bool:
        return not self.flaws


def inspect(
    given: GivenTapes, labels: Sequence[str], catalog: Inventory, report: Report, unread: list[Unread]
) -> Iterator[Inspected]:
    """Each of these tapes, none: all, one after the other. unread: gets those that are not there, or do not answer to their end."""
    met = set[str]()
    for slot in given.slots:
        label = slot.label or slot.place
        try:
            with given.opened(slot) as tape:
                label = tape.label.label if tape.label is not None else label
                met.add(label)
                found = _inspected(tape, slot, catalog, report) if not labels or label in labels else None
        except VsnapfsError as error:
            if not labels or slot.label is None or label in labels:
                met.add(label)
                unread.append(Unread(label, error))
            continue
        if found is not None:
            yield found
    unread += [
        Unread(label, NotFoundError(f"tape {label} is not there", near=near(label, met)))
        for label in sorted(set(labels) - met)
    ]


def _inspected(tape: Tape, slot: Slot, catalog: Inventory, report: Report) -> Inspected:
    damage = Damage()
    pieces = list(seen_on(tape))
    entry = entry_of(tape, slot, pieces)
    if tape.label is None and slot.label is not None:
        why = "the label cannot be read" if tape.problem is None else tape.problem.message
        damage.flaw(Flaw(tape=entry.label, file=0, why=why))
    total = sum(piece.said.stored_bytes for piece in pieces if piece.said is not None)
    done = 0
    for number, piece in enumerate(pieces):
        _compare(tape, piece, entry, damage, is_last=number + 1 == len(pieces))
        done += piece.said.stored_bytes if piece.said is not None else 0
        report(Progress(what=f"verify of {entry.label}", done=done, total=total))
    _compare_catalog(pieces, entry, catalog, damage)
    counting = [piece for piece in pieces if piece.said is not None]
    return Inspected(
        label=entry.label,
        uuid=entry.uuid,
        pieces=len(counting),
        stored_bytes=total,
        broken_off=bool(pieces) and pieces[-1].said is None and not pieces[-1].why,
        flaws=damage.flaws,
    )


def _compare(tape: Tape, piece: Seen, entry: TapeEntry, damage: Damage, *, is_last: bool) -> None:
    index = piece.said
    if index is None:
        if piece.why or not is_last:
            why = piece.why or NO_INDEX
            damage.flaw(Flaw(tape=entry.label, file=piece.file + 1, why=why))
        return
    if tape.label is not None and (index.tape_uuid, index.file) != (entry.uuid, piece.file):
        why = f"the index is that of file {index.file} of tape {index.tape} ({index.tape_uuid[:8]})"
        damage.flaw(Flaw(tape=entry.label, file=piece.file + 1, why=why))
    if not piece.is_there:
        damage.flaw(Flaw(tape=entry.label, file=piece.file, why="the piece is missing, and its index is there"))
        return
    _compare_piece(tape, piece.file, index, entry, damage)


def _compare_piece(tape: Tape, file: int, index: PieceIndex, entry: TapeEntry, damage: Damage) -> None:
    digest = hashlib.sha256()
    before = len(damage.flaws)
    stored = StoredPiece(tape, file, index, damage)
    with closing(ahead(stored.runs(), stored.give_up)) as runs:
        for run in runs:
            if run.content is not None:
                digest.update(run.content)
    if len(damage.flaws) == before and digest.hexdigest() != index.sha256:
        damage.flaw(Flaw(tape=entry.label, file=file, why="the piece does not match its digest"))


def _compare_catalog(pieces: Sequence[Seen], entry: TapeEntry, catalog: Inventory, damage: Damage) -> None:
    """What the catalog knows to be on the tape is there, as it knows it."""
    there = {piece.file: piece.said for piece in pieces}
    for known in catalog.pieces.values():
        if known.tape_uuid != entry.uuid:
            continue
        found = there.get(known.file)
        if known.file not in there:
            why = f"piece {known.number} of archive {known.archive[:8]}, which the catalog knows here, is missing"
            damage.flaw(Flaw(tape=entry.label, file=known.file, why=why))
        elif found is not None and (found.archive, found.piece, found.sha256) != (
            known.archive,
            known.number,
            known.sha256,
        ):
            why = f"it is another piece than that of archive {known.archive[:8]}, which the catalog knows here"
            damage.flaw(Flaw(tape=entry.label, file=known.file, why=why))

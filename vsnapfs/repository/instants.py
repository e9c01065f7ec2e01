"""Which points of some volumes differ, and which record made them do so.

The *state* of volumes at a point is the seqno of the last record, at or before it, that wrote to one of them: at two points of one state
they hold the same bytes.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from vsnapfs.core.errors import NotFoundError, PointGoneError
from vsnapfs.repository import gaps
from vsnapfs.repository.compaction_plan import first_instant_seqno
from vsnapfs.repository.parts import Parts


class WriteRecord(NamedTuple):
    """A record that put something into a volume. ``zero``: zeros, or nothing any more. ``volume``: its id."""

    seqno: int
    time_ns: int
    volume: int
    offset_bytes: int
    length_bytes: int
    zero: bool


def state(parts: Parts, volumes: Collection[int], seqno: int) -> int:
    """Of volumes, by id, at a point. Raises: NotFoundError: one was not added yet. PointGoneError."""
    found = []
    for volume in volumes:
        at = parts.state_at(volume, seqno)
        if at is None:
            raise NotFoundError(f"volume {volume} did not stand at @{seqno}", volume=volume)
        found.append(at.last_write_seqno)
    return max(found)


def instants(parts: Parts, volumes: Collection[int], since: int, until: int, most: int) -> list[int]:
    """Seqnos after ``since`` and before ``until`` that wrote to one of the volumes and can be opened as points, ascending; of more than
    ``most`` every second, fourth, eighth … is told.
    """
    facts = parts.journal.facts()
    since = max(since, first_instant_seqno(parts.journal.segments(), facts) - 1)
    unknown = gaps.entries(parts, facts)
    found: list[int] = []
    stride, count, last = 1, 0, 0
    for piece in parts.journal.pieces(since):
        if piece.seqno >= until:
            break
        if piece.volume not in volumes or piece.seqno == last or any(gap.holds_seqno(piece.seqno) for gap in unknown):
            continue
        last = piece.seqno
        if count % stride == 0:
            found.append(last)
        count += 1
        if len(found) > most:
            found, stride = found[::2], 2 * stride
    return found


def write_record(parts: Parts, seqno: int) -> WriteRecord:
    """What a record wrote, all of its pieces as one run. Raises: PointGoneError: there is no such record (any more)."""
    pieces = []
    for piece in parts.journal.pieces(seqno - 1):
        if piece.seqno != seqno:
            break
        pieces.append(piece)
    if not pieces:
        raise PointGoneError(f"@{seqno} is not a write that the journal has", seqno=seqno)
    offset_bytes = min(piece.offset_bytes for piece in pieces)
    end_bytes = max(piece.offset_bytes + piece.length_bytes for piece in pieces)
    return WriteRecord(
        seqno,
        pieces[0].time_ns,
        pieces[0].volume,
        offset_bytes,
        end_bytes - offset_bytes,
        all(piece.zero for piece in pieces),
    )

"""Volumes at a point: views, what MANIFEST.json says of them, and how many bytes of each are data."""

from __future__ import annotations

from typing import Any

import msgspec

from vsnapfs.binding import View, VolumeState
from vsnapfs.catalog.counts import Count
from vsnapfs.catalog.index import VolumeEntry
from vsnapfs.core.errors import IntegrityError, NotFoundError
from vsnapfs.core.model import Bookmark, Point, VolumeAt
from vsnapfs.core.times import iso
from vsnapfs.repository import base
from vsnapfs.repository.parts import Parts

MANIFEST_FORMAT = 1
HOLD_FIELDS = ("held", "hold_note", "hold_until", "hold_until_ns")
"""Of a bookmark: what may change."""


def view(parts: Parts, name: str, point: Point) -> View:
    """The volume as it was; the caller closes it before the repository. Raises: NotFoundError.

    IntegrityError: its base is gone.
    """
    return view_of(parts, parts.entry(name, point.seqno), point.seqno)


def view_of(parts: Parts, entry: VolumeEntry, seqno: int) -> View:
    """Raises: PointGoneError: also if a prune has just given it up, and taken the base away. IntegrityError."""
    try:
        base.require(parts, entry)
        return parts.journal.view(entry.id, seqno)
    except IntegrityError:
        base.look_again(parts)
        parts.journal.point_check(seqno)
        raise


def volume_at(parts: Parts, name: str, point: Point) -> VolumeAt:
    """What a volume was. Raises: NotFoundError: it did not stand then."""
    return _describe(parts, parts.entry(name, point.seqno), point.seqno)


def manifest(parts: Parts, point: Point) -> dict[str, Any]:
    """``MANIFEST.json`` of a point: the same bytes whenever it is asked for, so a hold is not in it.

    Shape: {"format": 1, "repository": uuid, "point": Point, "bookmark": Bookmark without hold | null, "volumes":
    [VolumeAt]}.
    """
    with parts.names:
        bookmark = None if point.bookmark is None else parts.index.bookmark(point.bookmark)
    return {
        "format": MANIFEST_FORMAT,
        "repository": str(parts.uuid),
        "point": msgspec.to_builtins(point),
        "bookmark": None if bookmark is None else _lasting(bookmark),
        "volumes": [msgspec.to_builtins(_describe(parts, entry, point.seqno)) for entry in parts.entries(point.seqno)],
    }


def _lasting(bookmark: Bookmark) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(bookmark)
    return {name: value for name, value in fields.items() if name not in HOLD_FIELDS}


def _describe(parts: Parts, entry: VolumeEntry, seqno: int) -> VolumeAt:
    state = parts.state_at(entry.id, seqno)
    if state is None:
        raise NotFoundError(f"volume {entry.name} did not stand at @{seqno}", volume=entry.name)
    return VolumeAt(
        name=entry.name,
        id=entry.id,
        size_bytes=state.size_bytes,
        data_bytes=_data_bytes(parts, entry, seqno, state),
        last_write_seqno=state.last_write_seqno,
        last_write_time=iso(state.last_write_ns),
    )


def _data_bytes(parts: Parts, entry: VolumeEntry, seqno: int, state: VolumeState) -> int:
    """Counted once for each write that was the last one at some point: until the next write nothing changes."""
    known = parts.catalog.counts.get(entry.id, state.last_write_seqno)
    if known is not None:
        return known
    with view_of(parts, entry, seqno) as opened:
        counted = opened.stat().data_bytes
    parts.catalog.counts.keep(Count(entry.id, state.last_write_seqno, counted))
    return counted

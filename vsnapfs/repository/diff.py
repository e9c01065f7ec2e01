"""What differs of a volume between two points.

Extents are what records put there, whole: a byte written again with the same value counts as changed. Applying them
in order to the volume as it was at ``since``, cut or grown to ``size_bytes``, gives the volume at ``until``.
"""

from __future__ import annotations

from collections.abc import Iterator

from vsnapfs.binding import RunKind
from vsnapfs.catalog.index import VolumeEntry
from vsnapfs.core.errors import UsageError
from vsnapfs.core.model import Extent, Point, VolumeDiff
from vsnapfs.repository.parts import Parts
from vsnapfs.repository.reading import view_of


def volume_diff(parts: Parts, since: Point, until: Point, name: str) -> VolumeDiff:
    """Compare. A volume that was added between the points differs in everything it holds.

    Raises: UsageError: since is later than until. NotFoundError: the volume does not stand at until.
    """
    if since.seqno > until.seqno:
        raise UsageError(f"@{since.seqno} is later than @{until.seqno}", hint="give the older point first")
    entry = parts.entry(name, until.seqno)
    with view_of(parts, entry, until.seqno) as opened:
        size_bytes = opened.size_bytes
    extents = list(_extents(parts, entry, since.seqno, until.seqno))
    return VolumeDiff(
        volume=name,
        since=since,
        until=until,
        size_bytes=size_bytes,
        changed_bytes=sum(extent.length_bytes for extent in extents),
        extents=extents,
    )


def _extents(parts: Parts, entry: VolumeEntry, since: int, until: int) -> Iterator[Extent]:
    if entry.added_seqno > since:
        with parts.names:
            namesake = parts.index.volume(entry.name, since)
        return _everything(parts, entry, until, zeros=namesake is not None)
    return _changes(parts, entry, since, until) if since < until else iter(())


def _everything(parts: Parts, entry: VolumeEntry, until: int, zeros: bool) -> Iterator[Extent]:
    """All of a volume that was not there before. zeros: another one of its name was, so that its zeros matter too."""
    with view_of(parts, entry, until) as opened:
        for run in opened.runs():
            if zeros or run.kind == RunKind.DATA:
                yield Extent(
                    offset_bytes=run.offset_bytes, length_bytes=run.length_bytes, zero=run.kind != RunKind.DATA
                )


def _changes(parts: Parts, entry: VolumeEntry, since: int, until: int) -> Iterator[Extent]:
    with parts.journal.changes(entry.id, since, until) as changed:
        for run in changed.runs(keep_zeros=True):
            if run.kind != RunKind.HOLE:
                yield Extent(
                    offset_bytes=run.offset_bytes, length_bytes=run.length_bytes, zero=run.kind == RunKind.ZERO
                )

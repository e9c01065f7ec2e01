"""What the catalog of tapes has of archives and pieces, as manifests and indexes say it. Pure."""

from __future__ import annotations

from vsnapfs.archive.index import PieceIndex
from vsnapfs.archive.manifest import Manifest
from vsnapfs.core.model import Point
from vsnapfs.core.tapes import ArchivedPoint, ArchiveEntry, PieceEntry


def archive_entry(manifest: Manifest, medium: str) -> ArchiveEntry:
    """One that is under way."""
    consistency = str((manifest.bookmark or {}).get("consistency", ""))
    return ArchiveEntry(
        uuid=manifest.archive,
        repository=manifest.repository,
        kind=manifest.kind,
        point=_archived(manifest.point, consistency),
        since=None if manifest.since is None else _archived(manifest.since, ""),
        parent=manifest.parent,
        volumes=tuple(volume.name for volume in manifest.volumes),
        made=manifest.made,
        medium=medium,
    )


def piece_entry(index: PieceIndex, index_bytes: int) -> PieceEntry:
    """One that is where its index says."""
    return PieceEntry(
        archive=index.archive,
        number=index.piece,
        tape_uuid=index.tape_uuid,
        file=index.file,
        stream_offset=index.stream_offset,
        stream_bytes=index.stream_bytes,
        stored_bytes=index.stored_bytes,
        index_bytes=index_bytes,
        sha256=index.sha256,
    )


def first_piece(manifest: Manifest, tape_uuid: str, file: int) -> PieceEntry:
    """That an archive begins with, where no index says how long it is."""
    return PieceEntry(
        archive=manifest.archive,
        number=0,
        tape_uuid=tape_uuid,
        file=file,
        stream_offset=0,
        stream_bytes=0,
        stored_bytes=0,
        index_bytes=0,
        sha256="",
    )


def _archived(point: Point, consistency: str) -> ArchivedPoint:
    return ArchivedPoint(seqno=point.seqno, time=point.time, bookmark=point.bookmark, consistency=consistency)

"""How often there is each point, and where: on disk, and on which tapes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from vsnapfs.core.model import Bookmark
from vsnapfs.core.tapes import ArchivedPoint, ArchiveEntry, CopyList, PointCopies, TapeCopy
from vsnapfs.repository.tapes import shelf


def copy_list(repository: Path, bookmarks: Iterable[Bookmark]) -> CopyList:
    """Of the repository at a path. bookmarks: those that stand there. Raises: IntegrityError: the catalog of tapes is damaged."""
    points = {
        bookmark.seqno: ArchivedPoint(
            seqno=bookmark.seqno, time=bookmark.time, bookmark=bookmark.name, consistency=bookmark.consistency
        )
        for bookmark in bookmarks
    }
    on_disk = set(points)
    copies: dict[int, list[TapeCopy]] = {}
    with shelf(repository) as found:

        def labels(entry: ArchiveEntry) -> list[str]:
            return [tape.label for tape in found.tapes.tapes_of(found.tapes.chain(entry.uuid))]

        for entry in found.tapes.standing():
            points.setdefault(entry.point.seqno, entry.point)
            copy = TapeCopy(
                archive=entry.uuid, kind=entry.kind, made=entry.made, medium=entry.medium, tapes=labels(entry)
            )
            copies.setdefault(entry.point.seqno, []).append(copy)
    return CopyList(
        points=[
            PointCopies(point=points[seqno], on_disk=seqno in on_disk, on_tape=copies.get(seqno, []))
            for seqno in sorted(points)
        ]
    )

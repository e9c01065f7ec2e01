"""How often there is each point, and where: on disk, and on which tapes."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from vsnapfs.catalog.chains import chain
from vsnapfs.core.model import Bookmark
from vsnapfs.core.tapes import ArchivedPoint, ArchiveEntry, CopyList, PointCopies, TapeCopy
from vsnapfs.core.times import age_s
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
    now_ns = time.time_ns()
    with shelf(repository) as found:
        standing = found.tapes.standing()
        by_uuid = {entry.uuid: entry for entry in standing}
        labels_of = found.tapes.labels_by_archive()

    def labels(entry: ArchiveEntry) -> list[str]:
        return list(dict.fromkeys(label for step in chain(by_uuid, entry) for label in labels_of.get(step.uuid, ())))

    for entry in standing:
        points.setdefault(entry.point.seqno, entry.point)
        copy = TapeCopy(
            archive=entry.uuid,
            kind=entry.kind,
            made=entry.made,
            age_s=age_s(entry.made, now_ns),
            medium=entry.medium,
            tapes=labels(entry),
        )
        copies.setdefault(entry.point.seqno, []).append(copy)
    return CopyList(
        points=[
            PointCopies(
                point=points[seqno],
                age_s=age_s(points[seqno].time, now_ns),
                on_disk=seqno in on_disk,
                on_tape=copies.get(seqno, []),
            )
            for seqno in sorted(points)
        ]
    )

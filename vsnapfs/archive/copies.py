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
    """Of the repository at a path; points of others that are on its tapes stand for themselves. bookmarks: those that stand there.

    Raises: IntegrityError: the catalog of tapes is damaged."""
    with shelf(repository) as found:
        uuid = found.uuid
        with found.tapes.reading():
            standing = found.tapes.standing()
            labels_of = found.tapes.labels_by_archive()
    points = {
        (uuid, bookmark.seqno): ArchivedPoint(
            seqno=bookmark.seqno, time=bookmark.time, bookmark=bookmark.name, consistency=bookmark.consistency
        )
        for bookmark in bookmarks
    }
    on_disk = set(points)
    copies: dict[tuple[str, int], list[TapeCopy]] = {}
    now_ns = time.time_ns()
    by_uuid = {entry.uuid: entry for entry in standing}

    def labels(entry: ArchiveEntry) -> list[str]:
        return list(dict.fromkeys(label for step in chain(by_uuid, entry) for label in labels_of.get(step.uuid, ())))

    for entry in standing:
        key = (entry.repository, entry.point.seqno)
        points.setdefault(key, entry.point)
        copy = TapeCopy(
            archive=entry.uuid,
            kind=entry.kind,
            made=entry.made,
            age_s=age_s(entry.made, now_ns),
            medium=entry.medium,
            tapes=labels(entry),
        )
        copies.setdefault(key, []).append(copy)
    return CopyList(
        points=[
            PointCopies(
                point=point,
                age_s=age_s(point.time, now_ns),
                on_disk=key in on_disk,
                on_tape=copies.get(key, []),
            )
            for key, point in sorted(points.items(), key=lambda each: (each[1].seqno, each[0]))
        ]
    )

"""What is archived, as the catalog of tapes knows it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from vsnapfs.core.tapes import ArchiveEntry
from vsnapfs.repository.tapes import shelf


class ArchiveListed(ArchiveEntry, frozen=True, kw_only=True):
    """An archive, and where it is."""

    tapes: list[str]
    """Labels, in the order in which they are read."""
    copies: int
    """How many complete archives of its point can be read with all that they need, this one among them."""


class ArchiveList(msgspec.Struct, frozen=True, kw_only=True):
    """All of them, in the order in which they were made."""

    archives: list[ArchiveListed]


def archive_list(repository: Path) -> ArchiveList:
    """Of the repository at a path; its journal is not needed. Raises: NotFoundError. IntegrityError: the catalog of tapes is damaged."""
    with shelf(repository) as found:
        standing = [entry.point.seqno for entry in found.tapes.standing()]
        labels = found.tapes.labels_by_archive()
        return ArchiveList(
            archives=[
                ArchiveListed(
                    **msgspec.structs.asdict(entry),
                    tapes=labels.get(entry.uuid, []),
                    copies=standing.count(entry.point.seqno),
                )
                for entry in found.tapes.archives()
            ]
        )

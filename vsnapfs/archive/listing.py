"""What is archived, as the catalog of tapes knows it; and what was broken off, given up."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import msgspec

from vsnapfs.archive import volumes
from vsnapfs.archive.alone import alone, is_under_way
from vsnapfs.core.errors import GapError, PointGoneError, UsageError, VsnapfsError
from vsnapfs.core.tapes import ArchiveEntry
from vsnapfs.core.times import age_s
from vsnapfs.policy.media import CommandSettings
from vsnapfs.repository.repository import Repository
from vsnapfs.repository.tapes import Shelf, shelf

KILLED = "it was killed"


class ArchiveListed(ArchiveEntry, frozen=True, kw_only=True):
    """An archive, and where it is."""

    age_s: int
    """Since it was made."""
    tapes: list[str]
    """Labels, in the order in which they are read."""
    copies: int
    """How many complete archives of its point can be read with all that they need, this one among them."""
    resumable: bool | None
    """Of one that was broken off here: ``--resume`` can go on with it; false: its point is gone, or a tape of it was retired. None: it
    was not broken off, or nobody can tell."""


class ArchiveList(msgspec.Struct, frozen=True, kw_only=True):
    """All of them, in the order in which they were made."""

    archives: list[ArchiveListed]


def archive_list(repository: Path) -> ArchiveList:
    """Of the repository at a path; what is on tape is told without its journal. One that no process is at any more has failed.

    Raises: NotFoundError. IntegrityError: the catalog of tapes is damaged.
    """
    with shelf(repository) as found:
        with found.tapes.reading():
            standing = Counter((entry.repository, entry.point.seqno) for entry in found.tapes.standing())
            archives = found.tapes.archives()
            whole = {entry.uuid for entry in found.tapes.broken_off()}
            labels = found.tapes.labels_by_archive()
        now_ns = time.time_ns()
        entries = [_as_it_is(repository, found, entry) for entry in archives]
        ours = [entry for entry in entries if _is_broken_off(found, entry)]
        points = _standing(repository, ours) if ours else {}
        resumable = {uuid: uuid in whole and stands for uuid, stands in points.items()}
        return ArchiveList(
            archives=[
                ArchiveListed(
                    **msgspec.structs.asdict(entry),
                    age_s=age_s(entry.made, now_ns),
                    tapes=labels.get(entry.uuid, []),
                    copies=standing[entry.repository, entry.point.seqno],
                    resumable=resumable.get(entry.uuid),
                )
                for entry in entries
            ]
        )


def archive_drop(repository: Path, uuid: str) -> ArchiveEntry:
    """Give up one that was broken off, by its uuid or the beginning of that: nobody goes on with it.

    Raises: NotFoundError. UsageError: it is complete. BusyError: somebody is at it.
    """
    with shelf(repository, write=True) as found:
        entry = found.tapes.archive(uuid)
        with alone(repository, entry.medium) if entry.medium in found.media else nullcontext():
            entry = found.tapes.archive(entry.uuid)
            if entry.state == "complete":
                what = f"archive {entry.uuid} is complete"
                raise UsageError(what, hint="`vsnapfs tape retire` gives up a tape, and all that is on it")
            found.tapes.drop_archive(entry.uuid)
    return entry


def _as_it_is(repository: Path, found: Shelf, entry: ArchiveEntry) -> ArchiveEntry:
    at_it = entry.state == "under way" and entry.medium in found.media and is_under_way(repository, entry.medium)
    if entry.state != "under way" or at_it:
        return entry
    entry = found.tapes.archive(entry.uuid)  # it may have ended since it was read
    if entry.state != "under way":
        return entry
    return msgspec.structs.replace(entry, state="failed", why=KILLED)


def _is_broken_off(found: Shelf, entry: ArchiveEntry) -> bool:
    """And that something can be gone on with: a command gets the whole again."""
    ours = entry.state == "failed" and entry.repository == found.uuid
    return ours and entry.medium in found.media and not isinstance(found.media[entry.medium], CommandSettings)


def _standing(repository: Path, entries: Sequence[ArchiveEntry]) -> dict[str, bool]:
    """Whether their points stand, by uuid; nothing: the journal cannot be read."""
    try:
        with Repository.open(repository, owner=False) as opened:
            return {entry.uuid: _stands(opened, entry) for entry in entries}
    except VsnapfsError:
        return {}


def _stands(repository: Repository, entry: ArchiveEntry) -> bool:
    """Its point, and the one that it goes on from."""
    try:
        for point in (entry.point, *([] if entry.since is None else [entry.since])):
            volumes.point_again(repository, point)
    except (PointGoneError, GapError):
        return False
    return True

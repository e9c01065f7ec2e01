"""Which archives others need: pure, over the archives of a catalog."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from vsnapfs.core.errors import IntegrityError, NotFoundError, VsnapfsError
from vsnapfs.core.tapes import ArchiveEntry


def chain(by_uuid: Mapping[str, ArchiveEntry], last: ArchiveEntry) -> list[ArchiveEntry]:
    """``last`` and those it needs, the full one first. Raises: NotFoundError: one is not there; IntegrityError: a circle."""
    found = [last]
    while found[-1].parent is not None:
        parent = by_uuid.get(found[-1].parent)
        if parent is None:
            raise NotFoundError(f"archive {found[-1].uuid} needs archive {found[-1].parent}, which is not known")
        if parent in found:
            raise IntegrityError(f"archive {parent.uuid} needs itself")
        found.append(parent)
    return found[::-1]


def standing(archives: Sequence[ArchiveEntry], gone: Collection[str]) -> list[ArchiveEntry]:
    """Those that are complete with all that they need, in their order. gone: uuids of archives whose tapes do not count."""
    whole = {entry.uuid: entry for entry in archives if entry.state == "complete" and entry.uuid not in gone}
    return [entry for entry in whole.values() if _is_whole(whole, entry)]


def _is_whole(whole: Mapping[str, ArchiveEntry], entry: ArchiveEntry) -> bool:
    """One that has changes alone, and nobody knows since which archive, is none."""
    try:
        return chain(whole, entry)[0].kind == "full"
    except VsnapfsError:
        return False

"""Which archives others need: pure, over the archives of a catalog."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from vsnapfs.core.errors import IntegrityError, NotFoundError
from vsnapfs.core.tapes import ArchiveEntry

BROKEN_OFF = ("under way", "failed")


def chain(by_uuid: Mapping[str, ArchiveEntry], last: ArchiveEntry) -> list[ArchiveEntry]:
    """``last`` and those it needs, the full one first. Where no parent is known, it is the best archive of the point.

    Raises: NotFoundError: one is not there; IntegrityError: a circle.
    """
    found, seen = [last], {last.uuid}
    while found[-1].parent is not None or found[-1].kind != "full":
        parent = by_uuid.get(found[-1].parent) if found[-1].parent is not None else _of_since(by_uuid, found[-1])
        if parent is None:
            what = (
                f"archive {found[-1].parent}"
                if found[-1].parent is not None
                else "one of the point that it goes on from"
            )
            raise NotFoundError(f"archive {found[-1].uuid} needs {what}, which is not known")
        if parent.uuid in seen:
            raise IntegrityError(f"archive {parent.uuid} needs itself")
        found.append(parent)
        seen.add(parent.uuid)
    return found[::-1]


def _of_since(by_uuid: Mapping[str, ArchiveEntry], entry: ArchiveEntry) -> ArchiveEntry | None:
    since = entry.since
    same = [
        other
        for other in by_uuid.values()
        if since is not None and (other.repository, other.point.seqno) == (entry.repository, since.seqno)
    ]
    return max(same, key=lambda one: (one.state == "complete", one.kind == "full", one.made), default=None)


def standing(archives: Sequence[ArchiveEntry], gone: Collection[str]) -> list[ArchiveEntry]:
    """Those that are complete with all that they need, in their order. gone: uuids of archives whose tapes do not count."""
    whole = {entry.uuid: entry for entry in archives if entry.state == "complete" and entry.uuid not in gone}
    judge = _Judge(whole)
    return [entry for entry in whole.values() if judge.stands(entry)]


def broken_off(archives: Sequence[ArchiveEntry], gone: Collection[str]) -> list[ArchiveEntry]:
    """Those that can be gone on with, in their order, by whoever is alone with their medium. gone: the same."""
    return [entry for entry in archives if entry.state in BROKEN_OFF and entry.uuid not in gone]


class _Judge:
    """whole: complete archives on tapes that count, by uuid."""

    def __init__(self, whole: Mapping[str, ArchiveEntry]) -> None:
        self._whole = whole
        self._at: dict[tuple[str, int], list[ArchiveEntry]] = {}
        for entry in whole.values():
            self._at.setdefault((entry.repository, entry.point.seqno), []).append(entry)
        self._known: dict[str, bool] = {}

    def stands(self, entry: ArchiveEntry) -> bool:
        """It is there with all that it needs. One that needs itself is not."""
        trail: dict[str, None] = {}
        at: ArchiveEntry | None = entry
        while at is not None and at.uuid not in self._known and at.uuid not in trail and at.parent is not None:
            trail[at.uuid] = None
            at = self._whole.get(at.parent)
        if at is not None and at.uuid not in self._known and at.parent is None:
            self._known[at.uuid] = False
            self._known[at.uuid] = at.kind == "full" or self._has_since(at)
        stands = at is not None and self._known.get(at.uuid, False)
        self._known.update(dict.fromkeys(trail, stands))
        return stands

    def _has_since(self, entry: ArchiveEntry) -> bool:
        """Where no parent was known, any archive of the point will do."""
        since = entry.since
        return since is not None and any(
            self.stands(other) for other in self._at.get((entry.repository, since.seqno), [])
        )

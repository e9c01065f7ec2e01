"""Which archives make a point, the full one first, and the pieces of each in the order in which they are read.

Tapes are read in the order in which they were written: the full archive, then each incremental one onto it. So each tape is passed
over once, from its beginning to its end, and no list of what is needed has to be read before. A block that several archives of a
chain have is written several times, which a disk does faster than a tape goes back.

Pure. Source: docs/recall.md.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from vsnapfs.archive.inventory import Inventory
from vsnapfs.archive.placing import Step, step_of
from vsnapfs.core.errors import IntegrityError, NotFoundError, UsageError
from vsnapfs.core.names import near
from vsnapfs.core.tapes import ArchivedPoint, ArchiveEntry, TapeEntry

LATEST = "latest"
CHAIN_LENGTH_MAX = 100_000
OTHERS_MAX = 16
TRIES_MAX = 2_000
"""Archives that are looked at for other ways to a point."""
NAMED_MAX = 20
"""So many missing pieces of a tape are named."""


class Plan(NamedTuple):
    steps: tuple[Step, ...]

    @property
    def point(self) -> ArchiveEntry:
        """The archive whose point it makes."""
        return self.steps[-1].archive

    @property
    def tapes(self) -> list[TapeEntry]:
        """That are read, in this order."""
        placed = (piece.tape for step in self.steps for piece in step.pieces if piece.tape is not None)
        return list({tape.uuid: tape for tape in placed}.values())

    def require_whole(self) -> None:
        """Raises: NotFoundError: something is missing; it names all of that, by tape where that is known."""
        lacking = [text for step in self.steps for text in _lacking(step)]
        if lacking:
            raise NotFoundError(
                f"{name_of(self.point)} cannot be recalled as a whole: {'; '.join(lacking)}",
                hint="give these tapes too, or --salvage for what there is",
            )


def name_of(archive: ArchiveEntry) -> str:
    """For people."""
    return f"{archive.point.bookmark or f'@{archive.point.seqno}'} (archive {archive.uuid[:8]})"


def _lacking(step: Step) -> Iterable[str]:
    by_label: dict[str, list[int]] = {}
    for piece in step.missing:
        by_label.setdefault(piece.label, []).append(piece.number)
    for label, numbers in by_label.items():
        where = f"tape {label}" if label else "a tape that nobody has named"
        more = f" and {len(numbers) - NAMED_MAX} more" if len(numbers) > NAMED_MAX else ""
        yield f"{where} with piece {', '.join(map(str, numbers[:NAMED_MAX]))}{more} of archive {step.archive.uuid[:8]}"
    if not step.is_whole and not step.missing:
        yield f"archive {step.archive.uuid[:8]} was broken off, or goes on on a tape that was not given"


def chosen(known: Inventory, wanted: str, repository: str | None = None, volumes: Sequence[str] = ()) -> ArchiveEntry:
    """The archive of a point, or by its uuid or the beginning of that. Of several of one point the best: whole ones first, then those
    with all volumes that are wanted, those whose indexes can be read, full ones, the newest.

    Args: wanted: a bookmark, ``@SEQNO``, ``latest``, a uuid. repository: only of that one. volumes: none: as many as there are.
    Raises: NotFoundError, with near names. UsageError: it is a point of several repositories, or the beginning of several uuids.
    """
    archives = [one for one in known.listed() if repository in (None, one.repository)]
    if not archives:
        raise NotFoundError("there is no archive on these tapes")
    found = _by_point(archives, wanted) or [one for one in archives if one.uuid.startswith(wanted)]
    if not found:
        names = [one.point.bookmark or f"@{one.point.seqno}" for one in archives]
        raise NotFoundError(f"no archive of {wanted!r} is on these tapes", near=near(wanted, [*names, LATEST]))
    points = {(one.repository, one.point.seqno) for one in found}
    if len(points) > 1:
        raise UsageError(f"{wanted!r} names {len(points)} points", hint="give the uuid of the archive")
    return max(found, key=lambda one: (_is_whole(known, one), _held(one, volumes), *_ease(known, one), one.made))


def _held(archive: ArchiveEntry, wanted: Sequence[str]) -> int:
    """How many of the volumes that are wanted it has."""
    return len(set(archive.volumes) & set(wanted) if wanted else archive.volumes)


def _ease(known: Inventory, archive: ArchiveEntry) -> tuple[bool, bool]:
    """All its indexes can be read; it needs no other archive."""
    return all(piece.index_bytes for piece in known.pieces_of(archive.uuid)), archive.kind == "full"


def _by_point(archives: list[ArchiveEntry], wanted: str) -> list[ArchiveEntry]:
    if wanted == LATEST:
        newest = max(archives, key=lambda one: (one.point.time, one.made))
        return [one for one in archives if (one.repository, one.point) == (newest.repository, newest.point)]
    return [one for one in archives if wanted in (one.point.bookmark, f"@{one.point.seqno}")]


def _is_whole(known: Inventory, archive: ArchiveEntry) -> bool:
    try:
        Plan(tuple(step_of(known, one) for one in _chain(known, archive))).require_whole()
    except (NotFoundError, IntegrityError):
        return False
    return True


def plan(known: Inventory, archive: ArchiveEntry) -> Plan:
    """How its point is made. Raises: NotFoundError: an archive that it goes on from is on none of these tapes. IntegrityError: they
    go on from each other in a circle."""
    return Plan(tuple(step_of(known, one) for one in _chain(known, archive)))


def others(known: Inventory, found: Plan) -> Iterator[Plan]:
    """Other ways to make the same point, up to ``OTHERS_MAX``: archives of that point, and of those that they go on from."""
    same = [one for one in reversed(known.listed()) if _is_of(one, found.point.repository, found.point.point)]
    chains = (chain for one in same for chain in _chains(known, one))
    uuids = [step.archive.uuid for step in found.steps]
    other = (chain for chain in chains if [one.uuid for one in chain] != uuids)
    for chain in itertools.islice(other, OTHERS_MAX):
        yield Plan(tuple(step_of(known, one) for one in chain))


def _chains(known: Inventory, archive: ArchiveEntry) -> Iterator[list[ArchiveEntry]]:
    """Chains that end with an archive, those with the best archives first; not all, where most lead nowhere."""
    begun = [[archive]]
    for _ in range(TRIES_MAX):
        if not begun:
            return
        chain = begun.pop()
        if chain[0].kind == "full":
            yield chain
        else:
            parents = [one for one in _parents(known, chain[0]) if one not in chain]
            begun += [[parent, *chain] for parent in reversed(parents)]


def _chain(known: Inventory, archive: ArchiveEntry) -> list[ArchiveEntry]:
    found = [archive]
    while found[0].kind == "incremental":
        parent = _parent(known, found[0])
        if parent in found or len(found) > CHAIN_LENGTH_MAX:
            raise IntegrityError(f"the archives that {name_of(archive)} goes on from lead back to themselves")
        found.insert(0, parent)
    return found


def _parent(known: Inventory, archive: ArchiveEntry) -> ArchiveEntry:
    """That which an incremental archive goes on from: by its uuid, else any of the same point, best first."""
    if archive.parent is not None and archive.parent in known.archives:
        return known.archives[archive.parent]
    found = _parents(known, archive)
    if not found:
        since = archive.since
        point = "" if since is None else f" of {since.bookmark or f'@{since.seqno}'}"
        named = "" if archive.parent is None else f" {archive.parent[:8]}"
        raise NotFoundError(
            f"{name_of(archive)} goes on from archive{named}{point}, which is on none of these tapes",
            hint="give the tapes of that too",
        )
    return found[0]


def _is_of(archive: ArchiveEntry, repository: str, point: ArchivedPoint) -> bool:
    """Whether it is of a point. The time tells a repository from a copy of it that has gone its own way."""
    return (archive.repository, archive.point.seqno, archive.point.time) == (repository, point.seqno, point.time)


def _parents(known: Inventory, archive: ArchiveEntry) -> list[ArchiveEntry]:
    """All that it can go on from, best first."""
    since = archive.since
    same = [
        one
        for one in known.listed()
        if since is not None and _is_of(one, archive.repository, since)
        if set(archive.volumes) <= set(one.volumes)  # another one may be of some volumes alone
    ]
    named = known.archives.get(archive.parent or "")
    best = sorted(same, key=lambda one: (one.state == "complete", one.kind == "full", one.made), reverse=True)
    return best if named is None else [named, *(one for one in best if one.uuid != named.uuid)]

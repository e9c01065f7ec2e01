"""What an archive is of: the volumes of a point, opened as sources, and the manifest that describes it.

The views lease their points: nothing of them is pruned while they are open.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

import msgspec

from vsnapfs.archive.manifest import FORMAT, SUMS, Manifest, directory_of
from vsnapfs.archive.source import ChangeSource, Source, ViewSource
from vsnapfs.core.errors import GapError, NotFoundError, PointGoneError, UsageError, VsnapfsError
from vsnapfs.core.model import Point
from vsnapfs.core.names import near
from vsnapfs.core.tapes import ArchivedPoint, ArchiveEntry
from vsnapfs.core.times import iso
from vsnapfs.repository.repository import Repository


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What one archive shall hold."""

    point: Point
    since: Point | None = None
    """None: full."""
    parent: str | None = None
    """The uuid of an archive of that point, if one is known."""
    volumes: tuple[str, ...]
    """In the order of the stream."""


def chosen_volumes(repository: Repository, point: Point, wanted: Sequence[str]) -> tuple[str, ...]:
    """The volumes of a point; wanted: only these, none: all. Raises: NotFoundError: one did not stand then. UsageError: there is none."""
    standing = [volume.name for volume in repository.volumes(point)]
    for name in wanted:
        if name not in standing:
            raise NotFoundError(f"there is no volume {name!r} at @{point.seqno}", near=near(name, standing))
    if not standing:
        raise UsageError(f"no volume stands at @{point.seqno}", hint="give a later point")
    if SUMS in standing and (SUMS in wanted or not wanted):
        raise UsageError(f"a volume called {SUMS} has no place in an archive", hint="choose the others by --volume")
    return tuple(name for name in standing if not wanted or name in wanted)


def parent_of(
    repository: Repository, point: Point, volumes: Sequence[str], known: Iterable[ArchiveEntry]
) -> ArchiveEntry | None:
    """The archive that an incremental one of a point can go on from: made last, of a point that is not later and still stands, with
    every one of the volumes that stood by then. known: complete ones, in the order in which they were made. None: there is none.

    Where an older copy of the repository was put back and newer tapes were scanned, a number may be that of another record by now: what
    changed since that says nothing about the archive.

    Raises: PointGoneError: there are some, and the points of all of them are gone.
    """
    gone: VsnapfsError | None = None
    for entry in reversed(list(known)):
        if entry.repository == repository.uuid and entry.point.seqno <= point.seqno:
            try:
                at = repository.resolve(f"@{entry.point.seqno}")
                standing = {volume.name for volume in repository.volumes(at)}
            except (PointGoneError, GapError) as error:
                gone = gone or error
                continue
            if at.time == entry.point.time and standing & set(volumes) <= set(entry.volumes):
                return entry
    if gone is not None:
        raise PointGoneError(
            f"what changed since the last archive, of @{gone.seqno}, cannot be told any more",
            hint="make a full one, without --incremental",
        ) from gone
    return None


def point_again(repository: Repository, archived: ArchivedPoint) -> Point:
    """A point that the catalog of tapes knows: by its name, as long as that means the same. Raises: PointGoneError: it is gone, or its
    number is that of another record by now."""
    if archived.bookmark is not None:
        with suppress(NotFoundError):
            named = repository.resolve(archived.bookmark)
            if (named.seqno, named.time) == (archived.seqno, archived.time):
                return named
    found = repository.resolve(f"@{archived.seqno}")
    if found.time != archived.time:
        raise PointGoneError(f"@{archived.seqno} is no more what it was at {archived.time}", seqno=archived.seqno)
    return found


@contextmanager
def opened(repository: Repository, subject: Subject) -> Iterator[list[Source]]:
    """The volumes, to be read. Raises: NotFoundError, PointGoneError, IntegrityError. UsageError: since is the later point."""
    with ExitStack() as stack:
        found: list[Source] = []
        for name in subject.volumes:
            view = stack.enter_context(repository.view(name, subject.point))
            volume, at = repository.volume(name, subject.point), repository.volume_at(name, subject.point)
            if subject.since is None:
                found.append(ViewSource(view, volume, at))
            else:
                diff = repository.diff(subject.since, subject.point, name)
                found.append(ChangeSource(view, volume, at, diff))
        yield found


def manifest_of(repository: Repository, subject: Subject, now_ns: int) -> Manifest:
    """Of an archive that is begun now."""
    return _manifest(repository, subject, str(uuid.uuid4()), iso(now_ns))


def manifest_again(repository: Repository, subject: Subject, entry: ArchiveEntry) -> Manifest:
    """Of one that was begun, and of which nothing is on tape yet."""
    return _manifest(repository, subject, entry.uuid, entry.made)


def _manifest(repository: Repository, subject: Subject, archive: str, made: str) -> Manifest:
    return Manifest(
        format=FORMAT,
        archive=archive,
        repository=repository.uuid,
        made=made,
        kind="full" if subject.since is None else "incremental",
        name=directory_of(subject.point),
        point=subject.point,
        bookmark=repository.manifest(subject.point)["bookmark"],
        since=subject.since,
        parent=subject.parent,
        volumes=(),
    )

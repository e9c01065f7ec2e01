"""What somebody asks of ``archive``: points, from where on, whereto and how; and what is done for it.

Source: docs/archive.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import msgspec

from vsnapfs.archive import plain, volumes
from vsnapfs.archive.alone import alone
from vsnapfs.archive.archiving import Archived, Archiving, Choice
from vsnapfs.archive.coding import Coding
from vsnapfs.archive.pieces import Flow
from vsnapfs.archive.plain import ArchivedPlain
from vsnapfs.archive.to_command import Target, to_command
from vsnapfs.archive.volumes import Subject
from vsnapfs.archive.writing import Clock, Report
from vsnapfs.catalog.tapes import Tapes
from vsnapfs.core.errors import NotFoundError, UsageError
from vsnapfs.core.model import Point
from vsnapfs.core.names import near
from vsnapfs.core.tapes import ArchiveEntry
from vsnapfs.media.kinds import Ask, open_medium
from vsnapfs.policy.media import CommandSettings, DriveSettings, MediumSettings
from vsnapfs.repository.repository import Repository
from vsnapfs.repository.tapes import shelf

PIPE = "-"
BUFFER_BYTES = 64 << 20
"""For what is no medium with a setting of its own."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for. The fields are the options of the command."""

    points: tuple[str, ...] = ()
    to: str
    since: str | None = None
    incremental: bool = False
    volumes: tuple[str, ...] = ()
    compress: bool = False
    recipients: tuple[str, ...] = ()
    verify: bool = False
    rate_bytes: int | None = None
    resume: bool = False
    by_policy: str | None = None
    """It is for this one of the settings: what that has on the medium by the time that it is written is not written again."""


def is_medium(repository: Repository, to: str) -> bool:
    """True: a medium of the settings; false: a path or ``-``. Raises: NotFoundError: it looks like neither."""
    media = repository.settings.media
    if to == PIPE or to in media:
        return to != PIPE
    if "/" not in to and "." not in to:
        hint = f"a file is ./{to}" if media else f"[media.{to}] in vsnapfs.toml would be one; a file is ./{to}"
        raise NotFoundError(f"there is no medium {to!r}", near=near(to, media), hint=hint)
    return False


def can_be_resumed(repository: Repository, to: str) -> bool:
    """What was broken off there can be gone on with: pipes and commands get the whole again."""
    return to != PIPE and not isinstance(repository.settings.media.get(to), CommandSettings)


def flow_of(wanted: Wanted, settings: MediumSettings | None) -> Flow:
    """How it is written: by the settings, and what was asked for beside."""
    compressed = wanted.compress or (settings is not None and settings.compression == "zstd")
    recipients = (*(settings.recipients if settings is not None else ()), *wanted.recipients)
    coding = Coding("zstd" if compressed else None, tuple(dict.fromkeys(recipients)))
    if settings is None:
        return Flow(coding=coding, buffer_bytes=BUFFER_BYTES, rate_bytes=wanted.rate_bytes)
    buffer_bytes = settings.buffer_bytes
    fill_bytes = buffer_bytes if isinstance(settings, DriveSettings) else 0
    return Flow(coding, buffer_bytes, fill_bytes, wanted.rate_bytes or settings.rate_bytes)


def to_medium(
    repository: Repository, wanted: Wanted, report: Report, clock: Clock, ask: Ask | None = None
) -> Iterator[Archived]:
    """One archive for each point, in the order of the points; of none with ``resume``, the one that was broken off last.

    ask: somebody who puts tapes into a drive; None: nobody is there. Raises: as Archiving; those before are complete.
    """
    if isinstance(repository.settings.media.get(wanted.to), CommandSettings):
        yield from _to_command(repository, wanted, report, clock)
        return
    with _archiving(repository, wanted.to, clock, ask) as (archiving, catalog, settings):
        choice = Choice(
            flow=flow_of(wanted, settings),
            piece_bytes=settings.piece_bytes,
            fresh=not settings.append,
            verify=wanted.verify,
        )
        for subject in _subjects(repository, wanted, catalog) if wanted.points else [None]:
            if subject is None or not _is_there(repository, wanted, subject):
                yield _one(archiving, subject, choice, report, resume=wanted.resume)


def _to_command(repository: Repository, wanted: Wanted, report: Report, clock: Clock) -> Iterator[Archived]:
    """With ``resume`` the same: what was broken off is written anew."""
    if not wanted.points:
        what = f"{wanted.to} is a command, which gets each archive as a whole"
        raise UsageError(what, hint="name the points that are to be archived")
    with shelf(repository.path, write=True) as found, alone(repository.path, wanted.to):
        settings = found.settings_of(wanted.to)
        assert isinstance(settings, CommandSettings), "as the repository's own settings say"
        flow = flow_of(wanted, settings)
        target = Target(wanted.to, settings, repository.path, found.tapes, flow, clock, wanted.verify)
        for subject in _subjects(repository, wanted, found.tapes):
            if _is_there(repository, wanted, subject):
                continue
            manifest = volumes.manifest_of(repository, subject, clock())
            sources = partial(volumes.opened, repository, subject)
            made, label = to_command(target, manifest, sources, report)
            yield Archived(archive=made, tapes=[label], resumed_at_bytes=None, verified=wanted.verify)


def _is_there(repository: Repository, wanted: Wanted, subject: Subject) -> bool:
    """Whoever was alone with the medium until now may have written it. To be asked by who is alone with it."""
    return wanted.by_policy is not None and repository.is_archived(wanted.by_policy, subject.point)


def _one(archiving: Archiving, subject: Subject | None, choice: Choice, report: Report, *, resume: bool) -> Archived:
    found = archiving.broken_off(subject) if resume else None
    if found is not None:
        return archiving.resume(found, choice, report)
    if subject is None:
        raise NotFoundError("no archive of this medium was broken off", hint="name the points that are to be archived")
    return archiving.begin(subject, choice, report)


@contextmanager
def _archiving(
    repository: Repository, name: str, clock: Clock, ask: Ask | None
) -> Iterator[tuple[Archiving, Tapes, MediumSettings]]:
    with shelf(repository.path, write=True) as found, alone(repository.path, name):
        settings = found.settings_of(name)
        with closing(open_medium(name, settings, ask)) as medium:
            yield Archiving(repository, found.tapes, medium, clock), found.tapes, settings


def _subjects(repository: Repository, wanted: Wanted, catalog: Tapes) -> Iterator[Subject]:
    """One at a time: what was archived before the next is known by then."""
    points = [repository.resolve(point) for point in wanted.points]
    if wanted.incremental:
        points.sort(key=lambda point: point.seqno)
    for point in points:
        yield subject_of(repository, wanted, point, _on_medium(catalog, wanted.to))


def _on_medium(catalog: Tapes, medium: str) -> list[ArchiveEntry]:
    return [entry for entry in catalog.standing() if entry.medium == medium]


def subject_of(repository: Repository, wanted: Wanted, point: Point, known: list[ArchiveEntry]) -> Subject:
    """What an archive of a point holds. known: complete ones that it can go on from.

    Raises: NotFoundError: no such volume. UsageError: since is the later point.
    """
    names = volumes.chosen_volumes(repository, point, wanted.volumes)
    if wanted.since is not None:
        since = repository.resolve(wanted.since)
        if since.seqno > point.seqno:
            raise UsageError(f"@{since.seqno} is later than @{point.seqno}", hint="give the older point first")
        same = [entry for entry in known if entry.point.seqno == since.seqno]
        parent = volumes.parent_of(repository, since, names, same)
        return Subject(point=point, since=since, parent=parent.uuid if parent else None, volumes=names)
    parent = volumes.parent_of(repository, point, names, known) if wanted.incremental else None
    if parent is None:
        return Subject(point=point, volumes=names)
    since = volumes.point_again(repository, parent.point)
    return Subject(point=point, since=since, parent=parent.uuid, volumes=names)


def to_plain(
    repository: Repository, wanted: Wanted, pipe_fd: int, report: Report, now_ns: int, *, force: bool
) -> ArchivedPlain:
    """The one point into a file, or into ``pipe_fd``. Raises: UsageError: several points. As archive.plain."""
    if len(wanted.points) != 1 or wanted.incremental:
        raise UsageError("a file or a pipe takes one POINT", hint="and --since POINT in place of --incremental")
    (text,) = wanted.points
    subject = subject_of(repository, wanted, repository.resolve(text), [])
    flow = flow_of(wanted, None)
    if wanted.to == PIPE:
        return plain.to_pipe(repository, subject, pipe_fd, flow, report, now_ns)
    path = Path(wanted.to).absolute()
    how = plain.How(force=force, resume=wanted.resume, verify=wanted.verify)
    return plain.to_file(repository, subject, path, flow, report, now_ns, how)

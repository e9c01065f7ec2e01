"""Restore: a volume at a point, or of a branch, into a file or device by this process; or onto live volumes by who owns them.

Into a file the bytes go from a reader in this process straight to the target, never through a server.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec

from vsnapfs.core.branch import SOURCE_PREFIX, Branch, BranchVolume, source_branch
from vsnapfs.core.errors import (
    BusyError,
    IntegrityError,
    NotFoundError,
    VsnapfsError,
    from_os_error,
    with_hint,
)
from vsnapfs.core.model import Point, Volume
from vsnapfs.core.names import near
from vsnapfs.core.times import stamp
from vsnapfs.daemon.again import call_again, show_closed
from vsnapfs.daemon.client import Client, Report, open_repository
from vsnapfs.daemon.requests import (
    BranchPromote,
    BranchShow,
    GetStatus,
    Promoted,
    Request,
    Resolve,
    RestoredLive,
    RestoreLive,
)
from vsnapfs.daemon.restore_state import FORMAT, State
from vsnapfs.daemon.restore_target import Target

if TYPE_CHECKING:
    from vsnapfs.repository.bring import Source
    from vsnapfs.repository.repository import Repository
    from vsnapfs.repository.restore import Shareable


R = TypeVar("R")


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """What was restored into a file. ``size_bytes``: of the volume at the point."""

    volume: str
    source: str
    point: Point
    to: str
    size_bytes: int
    written_bytes: int
    shared_bytes: int
    resumed_bytes: int
    verified: bool


class Wanted(NamedTuple):
    """What to restore: ``volume`` at ``source``, a point or a branch; ``verify``: read back what was written, and compare."""

    source: str
    volume: str
    verify: bool = True


class Opened(NamedTuple):
    """A source that can be read."""

    repository: Repository
    source: Source
    shareable: Shareable | None
    point: Point
    said: State
    check: Callable[[], None] = lambda: None
    """After all was read. Raises: BusyError: it was no one state."""


def restore(
    client: Client, wanted: Wanted, to: Path, report: Report, *, force: bool = False, resume: bool = False
) -> Restored:
    """Write a volume into ``to``: a new file, or with ``force`` in place what is there, only blocks that differ.

    Raises: NotFoundError, UsageError, NameTakenError, BusyError, NoSpaceError, PermissionDeniedError: before the first byte. Others: a
    part is written, and the error says how to go on.
    """
    with _opened(client, wanted, force=force) as opened, Target(to) as target:
        repository = opened.repository
        primaries = [(volume.name, volume.primary_path) for volume in repository.volumes() if volume.primary_path]
        target.refuse_inside(repository.path, primaries)
        try:
            written, shared, resumed = _write(opened, target, wanted, report, force, resume)
        except VsnapfsError as error:
            target.drop_untouched()
            if target.advice is None:
                raise
            raise with_hint(error, "; ".join(filter(None, (error.hint, target.advice)))) from error
    return Restored(
        volume=wanted.volume,
        source=opened.said.source,
        point=opened.point,
        to=str(to),
        size_bytes=opened.said.size_bytes,
        written_bytes=written,
        shared_bytes=shared,
        resumed_bytes=resumed,
        verified=wanted.verify,
    )


def restore_live(client: Client, source: str, volume: str, report: Report, *, force: bool = False) -> RestoredLive:
    """Bring a live volume to what it was, between two bookmarks. If the server dies over it, the next one goes on.

    Raises: BusyError: somebody has it open, or writes to it. What ``Restores.live`` raises.
    """
    point = _fixed(client, source)
    return _asked_on(
        client, RestoreLive(source=point, volume=volume, name=f"restore-{stamp(time.time_ns())}", force=force), report
    )


def promote(client: Client, branch: str, bookmark: str | None, report: Report) -> Promoted:
    """Bring the live volumes to what a branch has; the same."""
    return _asked_on(
        client, BranchPromote(name=branch, bookmark=bookmark, before=f"before-promote-{stamp(time.time_ns())}"), report
    )


def _write(
    opened: Opened, target: Target, wanted: Wanted, report: Report, force: bool, resume: bool
) -> tuple[int, int, int]:
    """Returns: bytes written and shared, and the offset that an earlier try had come to."""
    from vsnapfs.repository.restore import Into

    if not target.open(opened.said, force=force, resume=resume):
        return 0, 0, opened.said.size_bytes
    resumed = target.done_bytes
    into = Into(
        fd=target.fd,
        path=str(target.to),
        is_new=target.is_new,
        from_bytes=resumed,
        verify=wanted.verify,
        settled=target.settled,
    )
    try:
        done = opened.repository.restores.into_file(wanted.volume, opened.source, opened.shareable, into, report)
    except IntegrityError:
        opened.check()
        raise
    opened.check()
    target.finish()
    return done.written_bytes, done.shared_bytes, resumed


@contextmanager
def _opened(client: Client, wanted: Wanted, *, force: bool) -> Iterator[Opened]:
    branch = source_branch(wanted.source)
    if branch is None:
        with client.reading() as repository, _point(repository, wanted) as opened:
            yield opened
    elif client.is_served():
        with client.reading() as repository, _shown(client, repository, branch, wanted.volume, force) as opened:
            yield opened
    else:  # as owner: a server that came meanwhile would write to it
        with open_repository(client.path, owner=True) as repository, _unshown(repository, wanted) as opened:
            yield opened


@contextmanager
def _point(repository: Repository, wanted: Wanted) -> Iterator[Opened]:
    from vsnapfs.repository.restore import Shareable
    from vsnapfs.repository.sources import ViewSource

    point = repository.resolve(wanted.source)
    volume = repository.volume(wanted.volume, point)
    with repository.view(wanted.volume, point) as view:
        said = _said(repository, f"@{point.seqno}", point.seqno, volume)
        yield Opened(repository, ViewSource(view), Shareable(volume.id, view), point, said)


@contextmanager
def _shown(client: Client, repository: Repository, name: str, volume: str, force: bool) -> Iterator[Opened]:
    """A branch by its file in the mount of the server, which alone may write to it."""
    from vsnapfs.repository.sources import FileSource

    branch = call_again(client, BranchShow(name=name)) if force else show_closed(client, name)
    mountpoint = call_again(client, GetStatus()).mountpoint
    held = _volume_of(branch, volume)
    if branch.in_use and not force:
        raise BusyError(f"branch {name} is open", hint="close it first, or --force takes it as it is while it is read")
    path = f"{mountpoint}/branches/{name}/{volume}"
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError as error:
        call_again(client, BranchShow(name=name))  # NotFoundError: it was removed meanwhile
        raise from_os_error(error, f"read {path}") from error
    try:
        said = _said(repository, f"{SOURCE_PREFIX}{name}", branch.id, held)
        point = repository.resolve(f"@{branch.seqno}")
        began_ns = os.fstat(fd).st_mtime_ns

        def check() -> None:
            if not force and os.fstat(fd).st_mtime_ns != began_ns:
                raise BusyError(f"branch {name} was written to meanwhile", hint="stop whoever uses it")

        yield Opened(repository, FileSource(fd, held.size_bytes, path), None, point, said, check)
    finally:
        os.close(fd)


@contextmanager
def _unshown(repository: Repository, wanted: Wanted) -> Iterator[Opened]:
    branch = repository.branch(source_branch(wanted.source) or "")
    held = _volume_of(branch, wanted.volume)
    with repository.restores.source(wanted.source, wanted.volume) as source:
        said = _said(repository, wanted.source, branch.id, held)
        yield Opened(repository, source, None, repository.resolve(f"@{branch.seqno}"), said)


def _volume_of(branch: Branch, name: str) -> BranchVolume:
    """Raises: NotFoundError. IntegrityError: the branch cannot be opened."""
    if branch.problem:
        raise IntegrityError(branch.problem)
    for volume in branch.volumes:
        if volume.name == name:
            return volume
    raise NotFoundError(
        f"branch {branch.name} has no volume {name!r}", near=near(name, [volume.name for volume in branch.volumes])
    )


def _said(repository: Repository, source: str, source_id: int, volume: Volume | BranchVolume) -> State:
    return State(
        format=FORMAT,
        repository=repository.uuid,
        source=source,
        source_id=source_id,
        volume=volume.name,
        volume_id=volume.id,
        size_bytes=volume.size_bytes,
        device=0,
        inode=0,
        in_place=False,
        done_bytes=0,
    )


def _fixed(client: Client, source: str) -> str:
    """A source that means the same when it is asked for again."""
    return source if source_branch(source) is not None else f"@{call_again(client, Resolve(text=source)).seqno}"


def _asked_on(client: Client, request: Request[R], report: Report) -> R:
    """The next worker is asked again if one dies over it: the same bookmarks are meant, and what is done is not done twice."""
    died: list[VsnapfsError] = []
    try:
        return call_again(client, request, report, died.append)
    except VsnapfsError as error:
        if died:
            raise _half_done(error) from error
        raise


def _half_done(error: VsnapfsError) -> VsnapfsError:
    """Of a restore that a server died over, which said nothing of that any more."""
    again = "do it again to complete it"
    if error.hint and again in error.hint:
        return error
    return with_hint(error, "; ".join(filter(None, (error.hint, f"a part may be written: {again}"))))

"""Restore: a volume at a point, or of a branch, into a file or device by this process; or onto live volumes by who owns them.

Into a file the bytes go from a reader in this process straight to the target, never through a server.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec

from vsnapfs.core.errors import ServerGoneError, VsnapfsError, with_hint
from vsnapfs.core.model import Point
from vsnapfs.core.times import stamp
from vsnapfs.daemon.client import Client, Report
from vsnapfs.daemon.requests import BranchPromote, Promoted, Request, Resolve, RestoredLive, RestoreLive
from vsnapfs.daemon.restore_state import FORMAT, State
from vsnapfs.daemon.restore_target import Target

if TYPE_CHECKING:
    from vsnapfs.repository.bring import Source
    from vsnapfs.repository.repository import Repository
    from vsnapfs.repository.restore import Shareable


R = TypeVar("R")
TRIES_MAX = 10
COMES_BACK_S_MAX = 20.0
"""So long a keeper may need for the next worker."""
LOOK_EVERY_S = 0.1


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

    source: Source
    shareable: Shareable | None
    point: Point
    said: State


def restore(
    client: Client, wanted: Wanted, to: Path, report: Report, *, force: bool = False, resume: bool = False
) -> Restored:
    """Write a volume into ``to``: a new file, or with ``force`` in place what is there, only blocks that differ.

    Raises: NotFoundError, UsageError, NameTakenError, BusyError, NoSpaceError, PermissionDeniedError: before the first byte. Others: a
    part is written, and the error says how to go on.
    """
    with client.reading() as repository, _opened(repository, wanted) as opened, Target(to) as target:
        primaries = [(volume.name, volume.primary_path) for volume in repository.volumes() if volume.primary_path]
        target.refuse_inside(repository.path, primaries)
        try:
            written, shared, resumed = _write(repository, opened, target, wanted, report, force, resume)
        except VsnapfsError as error:
            target.drop_untouched()
            raise error if target.advice is None else with_hint(error, target.advice) from error
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

    Raises: BusyError: somebody has it open, or writes to it. What ``Repository.restore_live`` raises.
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
    repository: Repository, opened: Opened, target: Target, wanted: Wanted, report: Report, force: bool, resume: bool
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
    done = repository.restores.into_file(wanted.volume, opened.source, opened.shareable, into, report)
    target.finish()
    return done.written_bytes, done.shared_bytes, resumed


@contextmanager
def _opened(repository: Repository, wanted: Wanted) -> Iterator[Opened]:
    from vsnapfs.repository.restore import Shareable
    from vsnapfs.repository.sources import ViewSource

    point = repository.resolve(wanted.source)
    volume = repository.volume(wanted.volume, point)
    with repository.view(wanted.volume, point) as view:
        said = State(
            format=FORMAT,
            repository=repository.uuid,
            source=f"@{point.seqno}",
            source_id=point.seqno,
            volume=volume.name,
            volume_id=volume.id,
            size_bytes=volume.size_bytes,
            device=0,
            inode=0,
            in_place=False,
            done_bytes=0,
        )
        yield Opened(ViewSource(view), Shareable(volume.id, view), point, said)


def _fixed(client: Client, source: str) -> str:
    """A source that means the same when it is asked for again."""
    return f"@{client.call(Resolve(text=source)).seqno}"


def _asked_on(client: Client, request: Request[R], report: Report) -> R:
    """Ask, and ask the next worker again if one dies over it: the same bookmarks are meant, and what is done is not done twice."""
    tries = 0
    while True:
        try:
            return client.call(request, report)
        except ServerGoneError as error:
            tries += 1
            if tries == TRIES_MAX or not _comes_back(client):
                raise with_hint(error, "a part is written: do it again to complete it, or undo it") from error


def _comes_back(client: Client) -> bool:
    end = time.monotonic() + COMES_BACK_S_MAX
    while time.monotonic() < end:
        try:
            if client.is_served():
                return True
        except VsnapfsError:
            """It does not take connections yet."""
        time.sleep(LOOK_EVERY_S)
    return False

"""Where a recall goes when not into a directory: a new point of a repository, a branch, or tapes again."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsnapfs.cli.session import Session
from vsnapfs.core.errors import NameTakenError, NotFoundError, UsageError

if TYPE_CHECKING:
    from vsnapfs.archive.chain import Plan
    from vsnapfs.archive.recall import Recalled
    from vsnapfs.core.branch import Branch


def refuse_early(session: Session, given: dict[str, Any], found: Plan) -> None:
    """What the target would refuse after hours is asked before the first byte."""
    from vsnapfs.daemon.client import connect
    from vsnapfs.daemon.requests import BookmarkShow, BranchShow, GetStatus
    from vsnapfs.replay.branches import mountpoint_of

    if given["branch"] is not None:
        mountpoint_of(session.client())
        with suppress(NotFoundError):
            _require_ours(session.ask(BranchShow(name=given["branch"])), found)
    if given["into"] is None:
        return
    client = connect(Path(os.path.abspath(given["into"])))
    client.call(GetStatus())
    with suppress(NotFoundError):
        client.call(BookmarkShow(name=given["bookmark"]))
        raise NameTakenError(f"bookmark {given['bookmark']} exists already", hint="take another name")


def import_images(repository: Path, name: str, found: Plan, done: Recalled, report: Any) -> None:
    from vsnapfs.daemon.client import connect
    from vsnapfs.daemon.requests import Import

    damaged = ", damaged" if done.lost else ""
    consistency = found.point.point.consistency if not done.lost else ""
    request = Import(
        images=done.images,
        bookmark=name,
        consistency=consistency or "crash",  # type: ignore[arg-type]
        note=f"{_note(found)}{damaged}",
    )
    connect(repository).call(request, report)


def lay_on_branch(session: Session, name: str, on: str, found: Plan, done: Recalled, report: Any) -> int:
    """A branch that an earlier try of this recall has made is gone on with."""
    from vsnapfs.archive.onto_branch import onto_branch
    from vsnapfs.daemon.requests import BranchAdd, BranchShow
    from vsnapfs.replay.branches import mountpoint_of, volume_path

    mountpoint = mountpoint_of(session.client())
    try:
        branch = session.ask(BranchShow(name=name))
    except NotFoundError:
        branch = session.ask(BranchAdd(name=name, source=on, note=_note(found)))
    _require_ours(branch, found)
    sizes = {volume.name: volume.size_bytes for volume in branch.volumes}
    images = {volume: Path(path) for volume, path in done.images.items()}
    for volume, path in images.items():
        if sizes.get(volume) != path.stat().st_size:
            _remove_branch(session, name)
            raise UsageError(
                f"volume {volume} at {on} is not there, or has another size than the recalled one",
                hint="give --on a point where it has, or --volume for the others",
            )
    return onto_branch(images, {volume: volume_path(mountpoint, name, volume) for volume in images}, report)


def archive_again(session: Session, medium: str, done: Recalled, report: Any, *, resume: bool) -> str:
    from vsnapfs.archive.synthetic import archive_images
    from vsnapfs.cli.prompt import asker

    return archive_images(session.repository, medium, done, report, asker(), resume=resume).uuid


def _note(found: Plan) -> str:
    return f"recalled from archive {found.point.uuid}"


def _require_ours(branch: Branch, found: Plan) -> None:
    """An earlier try of this recall has made it. Raises: NameTakenError: it is another one."""
    if branch.note != _note(found):
        raise NameTakenError(f"branch {branch.name} exists already", hint="take another name")


def _remove_branch(session: Session, name: str) -> None:
    from vsnapfs.daemon.requests import BranchRemove

    session.ask(BranchRemove(name=name))

"""The branch that a replay goes onto: made, or looked at whether it will do; its volumes, open; and the report that is kept with it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import msgspec

from vsnapfs.core.branch import Branch
from vsnapfs.core.errors import (
    BusyError,
    IntegrityError,
    NameTakenError,
    NotFoundError,
    UsageError,
    from_os_error,
)
from vsnapfs.core.model import Point
from vsnapfs.core.names import check_name
from vsnapfs.core.replay import REPORT_KIND, ReplayReport
from vsnapfs.daemon.again import call_again, make_branch, show_closed
from vsnapfs.daemon.client import Client
from vsnapfs.daemon.requests import BranchAdd, BranchReport, BranchShow, GetStatus

CONFLICTS_KEPT = 1000
"""With the branch."""
BRANCHES = "branches"


def mountpoint_of(client: Client) -> Path:
    """Where the server has its tree. Raises: NotFoundError: none runs."""
    status = call_again(client, GetStatus())
    if status.mountpoint is None:
        raise NotFoundError(
            f"no server of {status.repository} runs, so there are no branches to write to",
            hint="start one: vsnapfs serve MOUNT",
        )
    return Path(status.mountpoint)


def find(client: Client, name: str, since: Point) -> Branch | None:
    """The branch of that name, if a replay from ``since`` may go onto it; None: there is none.

    Raises: NameTakenError: it is of another point. BusyError: it is open, or has a replay already. IntegrityError: it is damaged.
    """
    check_name(name, "branch")
    try:
        branch = show_closed(client, name)
    except NotFoundError:
        return None
    if branch.problem:
        raise IntegrityError(f"branch {name} cannot be opened: {branch.problem}")
    if branch.seqno != since.seqno:
        raise NameTakenError(
            f"branch {name} is of @{branch.seqno}, and the replay begins at @{since.seqno}",
            hint="give another --into, or begin there",
        )
    if branch.in_use:
        raise BusyError(f"branch {name} is open", hint="close it, or detach it")
    _refuse_replayed(client, branch)
    return branch


def _refuse_replayed(client: Client, branch: Branch) -> None:
    """A branch that has later writes, or a part of them, itself or from the branch that it was made of, is no beginning."""
    seen: set[str] = set()
    at: Branch | None = branch
    until = ""
    while at is not None and at.name not in seen:
        seen.add(at.name)
        state = _replayed(at, until)
        if state is not None:
            raise BusyError(
                f"branch {branch.name} has a replay that is {state}{'' if at is branch else f', of branch {at.name}'}",
                hint=f"take a new name, or remove it first: vsnapfs branch remove {branch.name}",
            )
        until = at.created
        at = _parent(client, at)


def _replayed(branch: Branch, until: str) -> str | None:
    """The state of its replay, if that had begun at a time; "": at any. None: it has none."""
    report = branch.report
    if report is None or report.get("kind") != REPORT_KIND or (until and str(report.get("began")) > until):
        return None
    return str(report.get("state"))


def _parent(client: Client, branch: Branch) -> Branch | None:
    """None: it has none, or that is gone."""
    if branch.parent is None:
        return None
    try:
        return call_again(client, BranchShow(name=branch.parent))
    except NotFoundError:
        return None


def make(client: Client, name: str, since: Point, quota_bytes: int | None) -> Branch:
    note = f"replay from {since.bookmark or f'@{since.seqno}'}"
    return make_branch(client, BranchAdd(name=name, source=f"@{since.seqno}", quota_bytes=quota_bytes, note=note))


def keep(client: Client, report: ReplayReport) -> None:
    """Keep the report with its branch, in place of the one before. A server whose worker dies over it is asked again: that is no
    reason for a replay to fail, whose writes wait for the next one too."""
    short = msgspec.structs.replace(report, conflicts=report.conflicts[:CONFLICTS_KEPT])
    call_again(client, BranchReport(name=report.branch, report=msgspec.to_builtins(short)))


def volume_path(mountpoint: Path, branch: str, volume: str) -> Path:
    return mountpoint / BRANCHES / branch / volume


@contextmanager
def opened(mountpoint: Path, branch: Branch, wanted: set[int]) -> Iterator[dict[int, int]]:
    """Descriptors of volumes of the branch, by id; synced at the end of the block, if that went well.

    Raises: UsageError: one has not the size it had. NotFoundError, StoreError, NoSpaceError.
    """
    with ExitStack() as stack:
        files: dict[int, int] = {}
        for volume in branch.volumes:
            if volume.id in wanted:
                files[volume.id] = fd = _open(volume_path(mountpoint, branch.name, volume.name))
                stack.callback(_close, fd)
                if os.fstat(fd).st_size != volume.size_bytes:
                    raise UsageError(f"volume {volume.name} of branch {branch.name} has not the size of its point")
        yield files
        for fd in files.values():
            _sync(fd)


def _close(fd: int) -> None:
    """A branch without room says so once more at the last close, and whoever writes to it has been told."""
    with suppress(OSError):
        os.close(fd)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno == errno.ESTALE:
            raise NotFoundError(f"{path} was removed just now") from error
        raise from_os_error(error, f"open {path}") from error


def _sync(fd: int) -> None:
    try:
        os.fsync(fd)
    except OSError as error:
        raise from_os_error(error, "sync the branch") from error

"""Ask a server whose worker may die over it: the next one is asked for the same.

Where a keeper stands behind a worker that is killed, another answers after a moment. Until then no server answers, and nobody else gets the
repository, since the keeper has its lock. What is asked for in this way may be carried out twice: by the worker that died before it could
say so, and by the next.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from vsnapfs.core.branch import Branch
from vsnapfs.core.errors import LockedError, NameTakenError, ServerGoneError, VsnapfsError
from vsnapfs.core.state import Status
from vsnapfs.daemon.client import Client, Report
from vsnapfs.daemon.requests import BranchAdd, BranchShow, Request

R = TypeVar("R")

TRIES_MAX = 10
COMES_BACK_S_MAX = 15.0
"""So long a keeper may need for the next worker."""
LOOK_EVERY_S = 0.1
CLOSES_S = 2.0
CLOSED_EVERY_S = 0.02


def call_again(
    client: Client,
    request: Request[R],
    report: Report | None = None,
    died: Callable[[VsnapfsError], object] = lambda _: None,
) -> R:
    """The answer of this worker, or of a next one. died: is told of each that was gone before it answered.

    Raises: what ``Client.call`` raises; of it ServerGoneError and LockedError only if no worker comes that can answer.
    """
    for left in reversed(range(TRIES_MAX)):
        try:
            answer = client.call(request, report)
        except (ServerGoneError, LockedError) as error:
            if isinstance(error, ServerGoneError):
                died(error)
            if left == 0 or not _comes_back(client):
                raise
        else:
            if left == 0 or not _is_between(client, answer) or not _comes_back(client):
                return answer
    raise AssertionError("the last try returns or raises")


def make_branch(client: Client, request: BranchAdd) -> Branch:
    """Make a branch of a seqno. Raises: as ``call_again``; NameTakenError: another has the name, not by a worker that died over this."""
    try:
        return client.call(request)
    except (ServerGoneError, LockedError):
        try:
            return call_again(client, request)
        except NameTakenError:
            found = call_again(client, BranchShow(name=request.name))
            if (found.note, f"@{found.seqno}") != (request.note, request.source):
                raise
            return found


def show_closed(client: Client, name: str) -> Branch:
    """A branch, when nobody has a file of it open; in use, if somebody has for longer than a moment. The kernel tells the server of a
    close after it. Raises: as ``call_again``."""
    end = time.monotonic() + CLOSES_S
    while True:
        branch = call_again(client, BranchShow(name=name))
        if not branch.in_use or time.monotonic() >= end:
            return branch
        time.sleep(CLOSED_EVERY_S)


def _is_between(client: Client, answer: Any) -> bool:
    """A status that this process has looked up by itself, though a keeper is there."""
    return isinstance(answer, Status) and not answer.served and client.is_held()


def _comes_back(client: Client) -> bool:
    """Whether a server answers, soon."""
    end = time.monotonic() + COMES_BACK_S_MAX
    while time.monotonic() < end:
        try:
            if client.is_served():
                return True
        except VsnapfsError:
            """It does not take connections yet."""
        time.sleep(LOOK_EVERY_S)
    return False

"""What became of bookmarks over several repositories that were not decided when a server or a command died.

The repository asks the first of them, which knows, and does as it says; what cannot be asked stays as it is, and
``bookmark list`` and ``status`` say why. A server does this at its start and then now and then; a command that opens a
repository to change it, before anything else.

Source: docs/federation.md.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from vsnapfs.core.errors import NotFoundError, VsnapfsError, from_os_error
from vsnapfs.core.model import Undecided
from vsnapfs.daemon.api import verb_of
from vsnapfs.daemon.client import connect, open_repository
from vsnapfs.daemon.requests import FederatedVerdict, GetFederatedVerdict
from vsnapfs.repository.layout import FEDERATED

if TYPE_CHECKING:
    from vsnapfs.repository.repository import Repository

LOOK_EVERY_S = 1.0
ASK_S_MAX = 60.0
"""Between two questions to a repository that cannot be asked."""
ASKS_BEFORE_OPENING = 4
"""So often a server looks for the first's server, which may be about to start, before it opens the first itself."""


def ask_first(undecided: Undecided, *, may_open: bool = True) -> FederatedVerdict:
    """What the first repository says, through its server, or (may_open) opened here: nobody can decide anything meanwhile.

    Raises: whatever keeps it from answering; LockedError: a command is at work in it. NotFoundError: it may not be opened.
    """
    try:
        return _asked(Path(undecided.first_path), undecided, may_open)
    except OSError as error:
        raise from_os_error(error, f"ask {undecided.first_path}") from error


def _asked(path: Path, undecided: Undecided, may_open: bool) -> FederatedVerdict:
    request = GetFederatedVerdict(id=undecided.id, uuid=undecided.first_uuid)
    client = connect(path)
    if client.is_served():
        return client.call(request)
    if not may_open:
        raise NotFoundError(f"no server runs in {path}")
    with open_repository(path, owner=True) as first:
        found: FederatedVerdict = verb_of(request).run(first, request, lambda _: None)
        return found


def obey(repository: Repository, undecided: Undecided, verdict: FederatedVerdict) -> None:
    """Make the bookmark, or forget it, which is an event either way; or neither, while it is still being made.

    Raises: StoreError …: it cannot be made yet.
    """
    if verdict.bookmark is not None:
        repository.federated.finish(verdict.bookmark)
    elif verdict.state == "none":
        repository.federated.drop(
            undecided.id, f"the first of its repositories, {undecided.first_path}, has not made it"
        )


def settle(repository: Repository) -> None:
    """Ask about each, and obey. The caller owns the repository, and holds none that may be asked."""
    for undecided in repository.federated.undecided():
        try:
            obey(repository, undecided, ask_first(undecided))
        except VsnapfsError as error:
            repository.federated.note(undecided.id, str(error))


def settle_unserved(path: Path) -> None:
    """The same of the repository at ``path``, where that has no server and is not decided about something."""
    if any((path / FEDERATED).glob("*.json")) and not connect(path).is_served():
        with open_repository(path, owner=True) as repository:
            settle(repository)


async def settling(repository: Repository) -> None:
    """The same for a server, until cancelled. It does not wait for a repository that is slow to answer."""
    in_vain = 0
    while True:
        answered = True
        for undecided in repository.federated.undecided():
            answered &= await _settled(repository, undecided, may_open=in_vain >= ASKS_BEFORE_OPENING)
        in_vain = 0 if answered else in_vain + 1
        await trio.sleep(_pause_s(in_vain))


def _pause_s(in_vain: int) -> float:
    """Until the next question, after so many that nobody answered."""
    doublings = min(in_vain, 2 * ASKS_BEFORE_OPENING + 2) - ASKS_BEFORE_OPENING
    return min(ASK_S_MAX, LOOK_EVERY_S * 2.0 ** max(0, doublings))


async def _settled(repository: Repository, undecided: Undecided, *, may_open: bool) -> bool:
    """True if there was an answer, and what it asked for was done."""
    try:
        ask = partial(ask_first, undecided, may_open=may_open)
        verdict = await trio.to_thread.run_sync(ask, abandon_on_cancel=True)
        await trio.to_thread.run_sync(partial(obey, repository, undecided, verdict))
    except VsnapfsError as error:
        await trio.to_thread.run_sync(repository.federated.note, undecided.id, str(error))
        return False
    return True

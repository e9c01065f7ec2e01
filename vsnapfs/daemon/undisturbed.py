"""Restores onto live volumes: nobody may have open what is written, and nobody gets it for writing while that goes on.

Concurrency: called in worker threads; who opens is answered on trio's. An open shows in the mount before it is looked at whether it may
be, and here that is closed before those that are open are looked at: so one of the two sees the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import trio

from vsnapfs.core.errors import BusyError
from vsnapfs.daemon.requests import BranchPromote, Request, RestoreLive
from vsnapfs.mounts.holders import users_of
from vsnapfs.tree.nodes import LiveFile

if TYPE_CHECKING:
    from vsnapfs.repository.repository import Repository
    from vsnapfs.tree.fuse import Mount


@contextmanager
def undisturbed(repository: Repository, mount: Mount, request: Request[Any]) -> Iterator[None]:
    """What a request restores is for nobody else to write to while the block runs; any other request is not looked at.

    Raises: BusyError: it is open in the mount, and is not to be restored all the same.
    """
    if isinstance(request, RestoreLive):
        lives = {repository.volume(request.volume).id: request.volume}
        otherwise = None if request.force else "or --force"
    elif isinstance(request, BranchPromote):
        lives = {repository.volume(volume.name).id: volume.name for volume in repository.branch(request.name).volumes}
        otherwise = "then promote it"
    else:
        yield
        return
    files = {LiveFile(volume).ino for volume in lives}
    trio.from_thread.run_sync(mount.shut, files)
    try:
        if otherwise is not None:
            _refuse_open(mount, lives, otherwise)
        yield
    finally:
        trio.from_thread.run_sync(mount.unshut, files)


def _refuse_open(mount: Mount, lives: dict[int, str], otherwise: str) -> None:
    for _, node, _ in trio.from_thread.run(mount.open_volumes):
        if isinstance(node, LiveFile) and node.volume_id in lives:
            live = f"live/{lives[node.volume_id]}"
            users = ", ".join(users_of(mount.mountpoint / live)) or "somebody"
            raise BusyError(f"{live} is used by {users}", hint=f"stop that first, {otherwise}")

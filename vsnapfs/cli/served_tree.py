"""The mount that a command reads volumes from: of the running server, or the one that was named."""

from __future__ import annotations

import os
from pathlib import Path

from vsnapfs.cli.session import Session
from vsnapfs.core.errors import NotFoundError


def tree_of(session: Session, mount: str | None) -> Path:
    """Where the tree is mounted. mount: said by the user. Raises: NotFoundError: no server runs, or it has no mount."""
    from vsnapfs.daemon.requests import GetStatus

    if mount is not None:
        return Path(os.path.realpath(mount))
    told = session.ask_again(GetStatus())
    if told.mountpoint is None:
        raise NotFoundError(
            f"no server of {told.repository} runs",
            hint="start one: vsnapfs serve MOUNT; or name a mount: --mount MOUNT",
        )
    return Path(told.mountpoint)


def file_in(session: Session, mount: str | None, point: str, volume: str) -> tuple[Path, str]:
    """The file of a volume at a point or of ``branch:NAME``, and what it is for people, such as ``@1234 db0``.

    A server is asked which record the point is: it knows the names that look like one that is not there.
    """
    from vsnapfs.attach.places import branch_of, file_of
    from vsnapfs.daemon.requests import Resolve

    tree = tree_of(session, mount)
    exact = point
    if mount is None and branch_of(point) is None:
        exact = f"@{session.ask_again(Resolve(text=point)).seqno}"
    return file_of(tree, exact, volume), f"{point} {volume}"

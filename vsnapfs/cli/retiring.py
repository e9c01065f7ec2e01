"""``archive --retire``: bookmarks are removed when their points are archived."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from vsnapfs.cli.streams import say
from vsnapfs.cli.table import printable
from vsnapfs.core.errors import BusyError, NotFoundError, UsageError

if TYPE_CHECKING:
    from vsnapfs import Repository
    from vsnapfs.cli.session import Session


def require_retirable(repository: Repository, points: tuple[str, ...]) -> None:
    """Before the first byte. Raises: UsageError: a point has no name. BusyError: its bookmark is held."""
    for point in points:
        name = repository.resolve(point).bookmark
        if name is None:
            raise UsageError(f"{point} has no name to be removed", hint="leave out --retire")
        if repository.bookmark(name).held:
            raise BusyError(
                f"bookmark {name} is held", hint=f"`vsnapfs bookmark release {name}`, or leave out --retire"
            )


def retire(session: Session, repository: Repository, name: str, seqno: int) -> bool:
    """Remove a bookmark, if it still names the point that was archived: whatever else has its name by now was not.

    Returns: whether it was removed. Raises: BusyError: it is held now, or the repository is locked.
    """
    from vsnapfs.daemon.requests import BookmarkRemove

    try:
        session.ask(BookmarkRemove(name=name, seqno=seqno))
    except NotFoundError:
        repository.refresh()
        with suppress(NotFoundError):
            now = repository.bookmark(name).seqno
            say(printable(f"vsnapfs: bookmark {name} stays: it is of @{now} now, and @{seqno} is archived"))
        return False
    return True

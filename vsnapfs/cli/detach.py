"""``detach``: what ``attach`` has mounted, taken away."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from vsnapfs.cli.arguments import MountPath
from vsnapfs.cli.session import Session, global_options, pass_session
from vsnapfs.cli.table import printable
from vsnapfs.core.errors import BusyError, NotFoundError, UsageError

if TYPE_CHECKING:
    from vsnapfs.attach.model import Attached


@click.command("detach")
@click.argument("directory", metavar="DIR", type=MountPath(), required=False)
@click.option("--all", "everything", is_flag=True, help="All that is attached on this machine.")
@click.option("--stale", is_flag=True, help="What was left: by a killed command, an umount, a server that is gone.")
@click.option("--lazy", is_flag=True, help="Also what is in use; it goes when they are done.")
@global_options()
@pass_session
def command(session: Session, directory: str | None, everything: bool, stale: bool, lazy: bool) -> None:
    """Unmount what was attached on a directory; its loop device goes with it, and the directory if attach made it."""
    from vsnapfs.attach.attaching import require_root
    from vsnapfs.attach.stale import clean_all

    if [directory is not None, everything, stale].count(True) != 1:
        raise UsageError("say what to detach", hint="give a directory, --all or --stale")
    require_root()
    if directory is not None:
        from vsnapfs.attach.attaching import detach

        done = [detach(directory, lazy=lazy)]
    else:
        done = clean_all()
        if everything:
            done += _all(lazy)
    lines = [printable(f"detached {each.what or each.source} from {each.directory}{_why(each)}") for each in done]
    session.show({"detached": done}, lines)


def _all(lazy: bool) -> Iterator[Attached]:
    """Raises: BusyError: some are in use; the others are gone."""
    from vsnapfs.attach.attaching import detach
    from vsnapfs.attach.stale import listed

    busy: list[str] = []
    for each in reversed(listed()):  # one that is within another first
        try:
            yield detach(each.directory, lazy=lazy)
        except NotFoundError:
            continue  # somebody else did it in between
        except BusyError as error:
            busy.append(error.message)
    if busy:
        raise BusyError("; ".join(busy), hint="end that, or detach with --lazy")


def _why(each: Attached) -> str:
    return f": {each.problem}" if each.problem else ""

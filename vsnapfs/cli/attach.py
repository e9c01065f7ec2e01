"""``attach``: the filesystem of a volume, mounted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vsnapfs.cli.arguments import POINT, VOLUME, MountPath, PointsCommand
from vsnapfs.cli.session import Session, global_options, pass_session
from vsnapfs.cli.table import moment, printable, table
from vsnapfs.core.errors import ReadOnlyError, UsageError

if TYPE_CHECKING:
    from vsnapfs.attach.model import Attached


@click.command("attach", cls=PointsCommand)
@click.argument("point", type=POINT, metavar="POINT|branch:NAME|list")
@click.argument("volume", type=VOLUME, required=False)
@click.argument("directory", metavar="DIR", type=MountPath(), required=False)
@click.option(
    "--partition", type=click.IntRange(min=1), metavar="N", help="Of the volume's partitions the one to mount."
)
@click.option("--read-write", is_flag=True, help="Of a branch: let it be written to.")
@click.option("--options", default="", metavar="OPTIONS", help="More mount options, comma-separated.")
@click.option(
    "--mount", "tree", type=MountPath(), metavar="MOUNT", help="The tree to take it from, in place of the server's."
)
@global_options()
@pass_session
def command(
    session: Session,
    point: str,
    volume: str | None,
    directory: str | None,
    partition: int | None,
    read_write: bool,
    options: str,
    tree: str | None,
) -> None:
    """Mount the filesystem of a volume at a point, or of a branch, on a directory; list what is mounted so.

    Needs root, and a mount of the tree: that of the server, or --mount MOUNT. The directory is made if it is not there. Mounted
    nosuid, nodev, noexec, since whoever could write to the volume made what is in it. Points are read-only.
    """
    if point == "list" and volume is None:
        _list(session)
        return
    if volume is None or directory is None:
        missing = "VOLUME" if volume is None else "DIR"
        raise UsageError(f"missing argument {missing}", hint="see vsnapfs attach --help")
    done = _attached(session, point, volume, directory, partition, read_write, options, tree)
    session.show(done, _lines(done))


def _attached(
    session: Session,
    point: str,
    volume: str,
    directory: str,
    partition: int | None,
    read_write: bool,
    options: str,
    tree: str | None,
) -> Attached:
    from vsnapfs.attach.attaching import attach, require_root
    from vsnapfs.attach.places import branch_of
    from vsnapfs.cli.served_tree import file_in

    require_root()
    if read_write and branch_of(point) is None:
        raise ReadOnlyError(
            f"{point} is a point, which never changes",
            hint=f"vsnapfs branch add NAME --from {point}; attach branch:NAME",
        )
    source, what = file_in(session, tree, point, volume)
    return attach(source, directory, writable=read_write, partition=partition, options=options, what=what)


def _lines(done: Attached) -> list[str]:
    lines = [
        f"attached {done.what}: {done.filesystem} on {done.directory}, {'read-write' if done.writable else 'read-only'}"
    ]
    return [printable(line) for line in [*lines, *done.notes]]


def _list(session: Session) -> None:
    from vsnapfs.attach.attaching import require_root
    from vsnapfs.attach.stale import listed

    require_root()
    found = listed()
    rows = [
        [
            each.directory,
            each.what or each.source,
            each.filesystem,
            "rw" if each.writable else "ro",
            moment(each.since),
            each.problem or "-",
        ]
        for each in found
    ]
    session.show({"attached": found}, table(["DIRECTORY", "SHOWS", "KIND", "MODE", "SINCE", "STALE"], rows))

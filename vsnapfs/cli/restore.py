"""``restore``: a volume as it was, in a file, on a device, or live."""

from __future__ import annotations

import os
from pathlib import Path

import click

from vsnapfs.cli.arguments import SOURCE, VOLUME, PointsCommand
from vsnapfs.cli.progress import shown
from vsnapfs.cli.session import Session, global_options, pass_session
from vsnapfs.cli.table import printable
from vsnapfs.core.errors import UsageError
from vsnapfs.core.units import format_size


@click.command("restore", cls=PointsCommand)
@click.argument("source", type=SOURCE, metavar="POINT|branch:NAME")
@click.argument("volume", type=VOLUME)
@click.option("--to", type=click.Path(), metavar="PATH", help="A new file; with --force a file or device that exists.")
@click.option("--live", is_flag=True, help="The live volume, between two bookmarks.")
@click.option("--force", is_flag=True, help="Write over a target that exists; restore a live volume that is open.")
@click.option("--no-verify", is_flag=True, help="Do not read back what was written.")
@click.option("--resume", is_flag=True, help="Go on with a restore that was broken off.")
@global_options()
@pass_session
def command(
    session: Session,
    source: str,
    volume: str,
    to: str | None,
    live: bool,
    force: bool,
    no_verify: bool,
    resume: bool,
) -> None:
    """Bring back a volume as it was at a point.

    Only blocks that differ are written; they are read back and compared. A new file is sparse, and is called PATH.partial until it is
    complete. --live writes to the volume itself; the command that undoes it is printed.
    """
    if live == (to is not None):
        raise UsageError("a restore needs one target", hint="give either --to PATH or --live")
    if to is not None:
        _to_file(session, source, volume, Path(os.path.abspath(to)), force=force, verify=not no_verify, resume=resume)
    elif no_verify or resume:
        option = "--resume" if resume else "--no-verify"
        raise UsageError(f"{option} is for --to", hint="a live restore that is done again writes what still differs")
    else:
        _to_live(session, source, volume, force=force)


def _to_file(session: Session, source: str, volume: str, to: Path, *, force: bool, verify: bool, resume: bool) -> None:
    from vsnapfs.daemon.restore import Wanted, restore

    with shown(wanted=not session.json) as report:
        done = restore(session.client(), Wanted(source, volume, verify), to, report, force=force, resume=resume)
    sizes = f"{format_size(done.size_bytes)}, {format_size(done.written_bytes)} written"
    shared = f", {format_size(done.shared_bytes)} shared" if done.shared_bytes else ""
    session.show(done, [printable(f"restored {done.volume} at {done.source} to {to}, {sizes}{shared}")])


def _to_live(session: Session, source: str, volume: str, *, force: bool) -> None:
    from vsnapfs.daemon.restore import restore_live

    session.settle()
    with shown(wanted=not session.json) as report:
        done = restore_live(session.client(), source, volume, report, force=force)
    session.show(
        done,
        [
            f"restored {done.volume} to {done.source}, {format_size(done.changed_bytes)} written",
            f"this is bookmark {done.after.name}; to undo it: {done.undo}",
        ],
    )

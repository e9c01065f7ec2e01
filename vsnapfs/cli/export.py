"""``export``: a volume at a point as a plain file."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from vsnapfs.cli.arguments import POINT, VOLUME, PointsCommand
from vsnapfs.cli.session import Session, global_options, pass_session
from vsnapfs.core.errors import UsageError
from vsnapfs.core.units import format_size


@click.command("export", cls=PointsCommand)
@click.argument("point", type=POINT)
@click.argument("volume", type=VOLUME)
@click.option(
    "--to", required=True, type=click.Path(allow_dash=True), metavar="FILE|-", help="Target; -: standard output."
)
@click.option("--since", type=POINT, metavar="POINT", help="Only what changed from there, as a tar stream.")
@click.option("--force", is_flag=True, help="Write over a target that exists.")
@global_options()
@pass_session
def command(session: Session, point: str, volume: str, to: str, since: str | None, force: bool) -> None:
    """Write a volume at a point to a file.

    Sparse stays sparse. The file is called FILE.partial until it is complete; what fails leaves it under that name.
    With --since it is a tar
    stream: VOLUME.json lists the changed extents, VOLUME.extents has their bytes.
    """
    export_volume(session, point, volume, to, since, force=force)


def export_volume(session: Session, point: str, volume: str, to: str, since: str | None, *, force: bool) -> None:
    """Write it, and say so. Raises: UsageError: what is to be said has no place."""
    from vsnapfs.cli.progress import shown
    from vsnapfs.daemon.export import Export, export

    if to == "-" and session.json:
        raise UsageError("--json and --to - both write to standard output", hint="choose one")
    wanted = Export(point=point, volume=volume, since=since)
    target = None if to == "-" else Path(os.path.abspath(to))
    with shown(wanted=not session.json) as report:
        done = export(session.client(), wanted, target, report, force=force)
    line = f"exported {done.volume} at @{done.point.seqno} to {to}, {format_size(done.size_bytes)}"
    if target is None:
        print(line, file=sys.stderr)
    else:
        session.show(done, [line])

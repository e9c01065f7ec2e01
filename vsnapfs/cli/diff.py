"""``diff``: what changed between two points."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from vsnapfs.cli.arguments import POINT, VOLUME, PointsCommand
from vsnapfs.cli.session import Session, global_options, pass_session
from vsnapfs.cli.table import table
from vsnapfs.core.units import format_size

if TYPE_CHECKING:
    from vsnapfs.core.model import VolumeDiff


@click.command("diff", cls=PointsCommand)
@click.argument("since", metavar="A", type=POINT)
@click.argument("until", metavar="B", type=POINT)
@click.argument("volume", type=VOLUME, required=False)
@global_options()
@pass_session
def command(session: Session, since: str, until: str, volume: str | None) -> None:
    """List what changed from point A to point B.

    Extents in bytes, of one VOLUME or of all.
    """
    from vsnapfs.daemon.requests import Diff

    answer = session.ask(Diff(since=since, until=until, volume=volume))
    session.show(answer, (line for found in answer.diffs for line in _lines(found)))


def _lines(diff: VolumeDiff) -> Iterator[str]:
    span = f"@{diff.since.seqno} to @{diff.until.seqno}"
    yield f"{diff.volume}: {format_size(diff.changed_bytes)} in {len(diff.extents)} extents changed from {span}"
    if diff.extents:
        rows = ([str(e.offset_bytes), str(e.length_bytes), "zeros" if e.zero else "data"] for e in diff.extents)
        yield from table(["OFFSET", "LENGTH", "NOW"], rows)

"""``tape needed``: which tapes one point needs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from vsnapfs.cli.arguments import POINT
from vsnapfs.cli.session import Session, global_options, pass_session
from vsnapfs.cli.table import moment, printable, table
from vsnapfs.core.errors import DegradedError, VsnapfsError
from vsnapfs.core.units import format_period

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vsnapfs.core.model import Bookmark
    from vsnapfs.core.tapes import NeededTape, PointNeeds, Way

UUID_SHOWN = 8


@click.command("needed")
@click.argument("wanted", type=POINT, metavar="POINT|ARCHIVE")
@click.option("--look", is_flag=True, help="Also into drives and changers, which may have to move.")
@global_options()
@pass_session
def needed(session: Session, wanted: str, look: bool) -> int:
    """Show which tapes are needed for a point, by each archive of it, and which of them are retired, missing or written over.

    Exit status: 3 nothing of it was archived; 8 no archive of it can be read with all that it needs, or none that counts.
    """
    from vsnapfs.archive.needed import tapes_needed

    found = tapes_needed(session.repository, wanted, _bookmarks(session), look=look)
    session.show(found, _lines(found))
    return 0 if any(way.counts for way in found.ways) else DegradedError.exit_status


def _bookmarks(session: Session) -> Sequence[Bookmark] | None:
    """None: the journal, which may be what was lost, cannot be read."""
    from vsnapfs.daemon.requests import BookmarkList

    try:
        return session.ask(BookmarkList()).bookmarks
    except VsnapfsError:
        return None


def _lines(found: PointNeeds) -> Iterator[str]:
    point = found.point
    on_disk = {True: "on disk", False: "not on disk", None: "nobody can tell whether on disk"}[found.on_disk]
    name = f"{point.bookmark} (@{point.seqno})" if point.bookmark is not None else f"@{point.seqno}"
    yield printable(f"{name} of {moment(point.time)}, {format_period(found.age_s)} old, {on_disk}")
    for way in found.ways:
        yield ""
        yield from _way(way)


def _way(way: Way) -> Iterator[str]:
    needs = f", with {len(way.archives) - 1} before it" if len(way.archives) > 1 else ""
    age = f"{format_period(way.age_s)} old"
    yield printable(
        f"{way.kind} archive {way.archive[:UUID_SHOWN]}{needs}, of {moment(way.made)}, {age}: {_verdict(way)}"
    )
    yield from table(["TAPE", "MEDIUM", "STATE", "PLACE"], map(_row, way.tapes))
    yield from (printable(f"lacking: {what}") for what in way.lacks)


def _verdict(way: Way) -> str:
    if way.lacks:
        return "cannot be read"
    return "a copy" if way.counts else "counts no more, and can be read until its tapes are written over"


def _row(tape: NeededTape) -> list[str]:
    state = f"{tape.state}, protected" if tape.protected else tape.state
    return [tape.label, tape.medium, state, tape.place or "-"]

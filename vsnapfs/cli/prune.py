"""``prune``: drop bookmarks as the settings say, and give back what nothing needs any more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from vsnapfs.cli.session import Session, global_options, pass_session
from vsnapfs.cli.table import moment, printable, table
from vsnapfs.core.errors import DegradedError
from vsnapfs.core.units import format_size

if TYPE_CHECKING:
    from vsnapfs.core.keeping import Prune
    from vsnapfs.core.model import Point


@click.command("prune")
@click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")
@global_options()
@pass_session
def command(session: Session, dry_run: bool) -> int:
    """Drop bookmarks as [retention] in the settings says.

    Then give back what nothing needs any more: bases move forward, the journal is compacted. Exit status 8 if less was done than
    the preview says, or if more than maximum_size is left.
    """
    from vsnapfs.daemon.requests import Prune, PrunePreview

    result = session.ask(PrunePreview() if dry_run else Prune())
    session.show(result, _lines(result))
    done = result.fits and not result.problems and not result.changed
    return 0 if done else DegradedError.exit_status


def _lines(result: Prune) -> Iterator[str]:
    rows = [
        [
            fate.bookmark,
            f"@{fate.seqno}",
            moment(fate.time),
            "stays" if fate.stays else "goes" if result.dry_run else "gone",
            ", ".join(fate.reasons),
        ]
        for fate in result.bookmarks
    ]
    yield from table(["NAME", "POINT", "TIME", "FATE", "WHY"], rows)
    yield ""
    yield f"{result.kept} bookmarks stay, {result.removed} {'would go' if result.dry_run else 'are gone'}"
    yield from _reach_lines("oldest point", result.before.oldest, result.after.oldest)
    yield from _reach_lines("any instant from", result.before.any_instant, result.after.any_instant)
    yield from _space_lines(result)


def _reach_lines(what: str, before: Point | None, after: Point | None) -> Iterator[str]:
    if before is not None and after is not None:
        then = f", then {_moment(after)}" if after != before else ""
        yield f"{what}: {_moment(before)}{then}"


def _moment(point: Point) -> str:
    return f"@{point.seqno} {moment(point.time)}"


def _space_lines(result: Prune) -> Iterator[str]:
    held = format_size(result.held_bytes)
    if result.dry_run:
        yield f"{_size(result.predicted_bytes)} of {held} would be given back"
    else:
        yield f"{_size(result.freed_bytes)} of {held} are given back; {_size(result.predicted_bytes)} were expected"
    if not result.fits:
        yield "what is left is more than maximum_size, and nothing else may go"
    for name in result.changed:
        yield f"{printable(name)} stays: it changed meanwhile"
    if result.waiting_files:
        yield f"{result.waiting_files} files are deleted when nobody reads them any more"
    for problem in result.problems:
        yield f"problem: {printable(problem)}"


def _size(size_bytes: int) -> str:
    return format_size(size_bytes) if size_bytes >= 0 else f"-{format_size(-size_bytes)}"

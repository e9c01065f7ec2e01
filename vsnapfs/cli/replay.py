"""``replay``: later writes again on a branch, without those that did the harm."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from vsnapfs.cli.arguments import BRANCH, POINT, SIZE, VOLUME, PointsCommand
from vsnapfs.cli.hunt import TIMEOUT, Seconds
from vsnapfs.cli.session import Session, global_options, pass_session
from vsnapfs.cli.signals import ended_as_by_hand
from vsnapfs.cli.streams import say
from vsnapfs.cli.table import moment, printable
from vsnapfs.core.errors import IntegrityError, UsageError, VsnapfsError
from vsnapfs.core.times import NS_PER_S
from vsnapfs.core.units import format_size, parse_duration

if TYPE_CHECKING:
    from vsnapfs.core.model import Point
    from vsnapfs.core.replay import Conflict, ReplayReport

CONFLICTS_SHOWN = 10
GOOD = "good"
LINES_SHOWN = 5
"""Of what a checker or a test said."""


@click.command("replay", cls=PointsCommand)
@click.option("--from", "since", type=POINT, required=True, metavar="POINT", help="Where it begins.")
@click.option("--to", "until", type=POINT, metavar="POINT", help="Where it ends; default: now.")
@click.option("--into", type=BRANCH, required=True, metavar="BRANCH", help="Made from --from if it is not there.")
@click.option("--skip", multiple=True, metavar="@A[..@B]", help="Leave out the write @A, or all from @A to @B.")
@click.option("--skip-volume", "skip_volumes", type=VOLUME, multiple=True, help="Leave the volume as it is.")
@click.option(
    "--skip-range",
    "skip_ranges",
    multiple=True,
    metavar="VOLUME:OFFSET+LENGTH",
    help="Leave these bytes as they are; a write that is partly there is made in part.",
)
@click.option("--skip-time", "skip_times", multiple=True, metavar="T1..T2", help="Leave out the writes of that time.")
@click.option("--only-volume", "only_volumes", type=VOLUME, multiple=True, help="Leave all other volumes as they are.")
@click.option("--quota", "quota_bytes", type=SIZE, metavar="SIZE", help="Of the branch, if it is made.")
@click.option("--check", is_flag=True, help="Let the filesystems' own checkers look at the result.")
@click.option("--mount", is_flag=True, help="Mount the filesystems for TEST; else it gets the volumes as files.")
@click.option("--partition", type=int, metavar="N", help="Of volumes that have partitions.")
@click.option("--timeout", "timeout_s", type=Seconds(), metavar="SPAN", help=f"Of TEST; default: {TIMEOUT}.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and which writes are in conflict.")
@click.argument("test", nargs=-1)
@global_options()
@pass_session
def command(session: Session, /, dry_run: bool, timeout_s: float | None, **given: Any) -> int:
    """Make the writes after --from again, in order, on a branch, without what --skip… leaves out.

    All is looked at first: nothing is written if some of it cannot be. A conflict is a write that is made again over, or in
    one block beside, what one that was left out had put there: whoever made it may have seen that. TEST, after --, is run on the
    result as `vsnapfs hunt` does it. The report stays with the branch: `vsnapfs branch show`.

    Exit status: 0 done; 1 TEST did not end with 0; 6 a filesystem is damaged.
    """
    from vsnapfs.replay.wanted import Wanted

    wanted = Wanted(timeout_s=parse_duration(TIMEOUT) / NS_PER_S if timeout_s is None else timeout_s, **given)
    if wanted.mount and not wanted.test:
        raise UsageError("--mount is for a test", hint="give it after --, such as -- test -s {}/accounts")
    done = _planned(session, wanted) if dry_run else _done(session, wanted)
    session.show(done, _lines(done))
    return _status(done)


def _planned(session: Session, wanted: Any) -> ReplayReport:
    from vsnapfs.replay.replaying import preview

    return preview(session.client(), wanted)


def _done(session: Session, wanted: Any) -> ReplayReport:
    from vsnapfs.cli.progress import shown
    from vsnapfs.replay.replaying import replay

    with ended_as_by_hand(), shown(wanted=not session.json) as report:
        return replay(session.client(), wanted, report, _say(session))


def _say(session: Session) -> Callable[[str], None]:
    return lambda line: None if session.json else say(printable(line))


def _status(done: ReplayReport) -> int:
    if any(check.ok is False for check in done.checks):
        return IntegrityError.exit_status
    return VsnapfsError.exit_status if done.test is not None and done.test.verdict != GOOD else 0


def _lines(done: ReplayReport) -> Iterator[str]:
    yield from report_lines(done)
    if done.state == "planned":
        yield "nothing was written: --dry-run"


def report_lines(done: ReplayReport) -> Iterator[str]:
    """A report for people; also that which is kept with a branch."""
    yield f"{'replay:':14}{done.state}, onto branch {done.branch}{': ' + printable(done.error) if done.error else ''}"
    yield f"{'from:':14}{_place(done.since)}"
    yield f"{'to:':14}{_place(done.until)}"
    for text in done.left_out:
        yield f"{'without:':14}{printable(text)}"
    split = f", {done.split_records} of them in part" if done.split_records else ""
    yield f"{'made again:':14}{done.applied_records} writes, {format_size(done.applied_bytes)}{split}"
    yield f"{'left out:':14}{done.skipped_records} writes, {format_size(done.skipped_bytes)}"
    for volume in done.volumes:
        made, differs = format_size(volume.applied_bytes), format_size(volume.differs_bytes)
        yield f"  {volume.name}: {made} made again, {differs} may differ from {_name(done.until)}"
    yield from _conflicts(done)
    yield from (f"{'note:':14}{printable(note)}" for note in done.notes)
    yield from _tried(done)


def _conflicts(done: ReplayReport) -> Iterator[str]:
    total = done.over_conflicts + done.beside_conflicts
    if not done.skipped_bytes:
        return
    yield f"{'conflicts:':14}{total} ({done.over_conflicts} over, {done.beside_conflicts} beside what was left out)"
    yield from (f"  {_conflict(each)}" for each in done.conflicts[:CONFLICTS_SHOWN])
    if total > CONFLICTS_SHOWN:
        yield f"  and {total - CONFLICTS_SHOWN} more: --json"


def _conflict(each: Conflict) -> str:
    place = f"{each.length_bytes} bytes at {each.offset_bytes} of {each.volume}"
    return f"@{each.kept_seqno} wrote {each.kind} {place}, which were of @{each.skipped_seqno}"


def _tried(done: ReplayReport) -> Iterator[str]:
    for check in done.checks:
        what = {True: "sound", False: "damaged", None: "not known"}[check.ok]
        yield f"{'checked:':14}{check.volume}{' (' + check.filesystem + ')' if check.filesystem else ''}: {what}"
        if check.ok is not True:
            yield from _last(check.text)
    if done.test is not None:
        status = "" if done.test.exit_status is None else f", exit status {done.test.exit_status}"
        why = f": {printable(done.test.why)}" if done.test.why else ""
        yield f"{'tested:':14}{printable(shlex.join(done.test.test))}: {done.test.verdict}{status}{why}"
        yield from _last(done.test.output)


def _last(text: str) -> Iterator[str]:
    yield from (f"  {printable(line)}" for line in text.splitlines()[-LINES_SHOWN:])


def _place(point: Point) -> str:
    return f"{point.bookmark + ' at ' if point.bookmark else ''}@{point.seqno}, {moment(point.time)}"


def _name(point: Point) -> str:
    return point.bookmark or f"@{point.seqno}"

"""``recall``: what is on tape, back: as images, as a point of a repository, or on a branch."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from vsnapfs.cli.arguments import POINT, PointsCommand
from vsnapfs.cli.recall_sources import source
from vsnapfs.cli.recall_targets import archive_again, import_images, lay_on_branch, refuse_early
from vsnapfs.cli.session import Session, global_options, pass_session
from vsnapfs.cli.signals import ended_as_by_hand
from vsnapfs.cli.table import printable
from vsnapfs.core.errors import IntegrityError, NotFoundError, UsageError, VsnapfsError, with_hint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vsnapfs.archive.chain import Plan
    from vsnapfs.archive.recall import Recalled
    from vsnapfs.cli.recall_sources import Source

LINES_SHOWN = 20
"""Of what is lost; all of it is in ``VOLUME.damage`` and in --json."""
STAGING = ".recall"


class RecalledPoint(msgspec.Struct, frozen=True, kw_only=True):
    """What ``--json`` prints."""

    archives: tuple[str, ...]
    tapes: list[str]
    """Labels of those that were read, in this order."""
    point: str
    to: str
    """The directory, the repository, the branch, or the medium."""
    bookmark: str | None
    """That was made."""
    archive: str | None
    """uuid of the full one that was made."""
    images: dict[str, str]
    written_bytes: int | None
    """To the branch."""
    resumed: bool
    verified: bool
    flaws: list[Any]
    lost: list[Any]
    filled: list[Any]
    """What would have been lost, but for other copies."""


class RecallPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What ``--dry-run --json`` prints: what a recall reads, in this order."""

    point: str
    archives: list[str]
    tapes: list[str]
    missing: str | None
    """Why it cannot be recalled as a whole; None: it can."""


@click.command("recall", cls=PointsCommand)
@click.argument("wanted", type=POINT, metavar="POINT|ARCHIVE|FILE|-")
@click.option(
    "--from", "places", multiple=True, metavar="PLACE",
    help="Tapes: a pool, a tape of one, a file, a drive, or a medium of the settings; more than once. Default: as the catalog knows.",
)  # fmt: skip
@click.option("--volume", "volumes", multiple=True, metavar="VOLUME", help="Only this volume; more than once.")
@click.option("--to", type=click.Path(), metavar="DIR", help="Images, one a volume.")
@click.option("--into", type=click.Path(), metavar="REPO", help="A new point of this repository.")
@click.option("--bookmark", metavar="NAME", help="Of that point.")
@click.option("--branch", metavar="NAME", help="A new branch of the repository (-r), which a server shows.")
@click.option("--on", type=POINT, metavar="POINT", help="The point of that branch; default: latest.")
@click.option(
    "--archive-to", "medium", metavar="MEDIUM", help="A new full archive on this medium of the repository (-r)."
)
@click.option(
    "--staging",
    type=click.Path(),
    metavar="DIR",
    help="Where images are made meanwhile; default: beside the repository.",
)
@click.option(
    "--identity", "identities", multiple=True, type=click.Path(), metavar="FILE", help="A private key of age."
)
@click.option(
    "--tape", "labels", multiple=True, metavar="LABEL", help="Look at this one in a drive; more than once, in order."
)
@click.option("--salvage", is_flag=True, help="Go on without tapes that are missing, and name what is lost.")
@click.option("--no-verify", is_flag=True, help="Do not read back what was recalled.")
@click.option("--resume", is_flag=True, help="Go on with a recall that was broken off.")
@click.option("--dry-run", is_flag=True, help="Only say which tapes are needed, in which order.")
@global_options()
@pass_session
def command(session: Session, /, **given: Any) -> int:
    """Bring back a point from tape. It is a bookmark, @SEQNO, latest, or the beginning of an archive's uuid; or a file that an archive was
    written to; or - for one that comes out of a pipe.

    Tapes alone are enough: no catalog and no repository is needed. Incremental archives are laid onto the full one, in the order in
    which they were made. What is damaged is zeros and is named, in VOLUME.damage beside an image; the rest is as it was.

    Exit status: 3 a tape is missing, named; 6 something on tape is damaged.
    """
    if "" in (given["wanted"], given["to"], given["into"], given["staging"]):
        raise UsageError("an empty word names no point and no target", hint="a variable of a script may be empty")
    targets = [name for name in ("to", "into", "branch", "medium") if given[name] is not None]
    if len(targets) != 1 - given["dry_run"]:
        raise UsageError(
            "a recall needs one target", hint="give --to DIR, --into REPO, --branch NAME, or --archive-to MEDIUM"
        )
    if (given["into"] is None) != (given["bookmark"] is None):
        raise UsageError("--into and --bookmark belong together", hint="--into REPO --bookmark NAME")
    with ended_as_by_hand(), source(session, given) as found:
        return _carried_out(session, found, given)


def _carried_out(session: Session, found: Source, given: dict[str, Any]) -> int:
    from vsnapfs.archive.chain import name_of
    from vsnapfs.archive.recall import plan_lines

    if given["dry_run"]:
        needed = _needed(found.plan)
        missing = [] if needed.missing is None else [f"missing: {needed.missing}"]
        session.show(needed, map(printable, [name_of(found.plan.point), *plan_lines(found.plan), *missing]))
        return 0 if needed.missing is None else NotFoundError.exit_status
    found.require()
    refuse_early(session, given, found.plan)
    answer = _recalled(session, found, given)
    session.show(answer, map(printable, _lines(answer)))
    is_whole = not answer.lost and (bool(answer.filled) or not answer.flaws)
    return 0 if is_whole else IntegrityError.exit_status


def _needed(found: Plan) -> RecallPlan:
    from vsnapfs.archive.chain import name_of

    try:
        found.require_whole()
        missing = None
    except NotFoundError as error:
        missing = error.message
    return RecallPlan(
        point=name_of(found.point),
        archives=[step.archive.uuid for step in found.steps],
        tapes=[tape.label for tape in found.tapes],
        missing=missing,
    )


def _recalled(session: Session, found: Source, given: dict[str, Any]) -> RecalledPoint:
    from vsnapfs.archive.landing import Landing
    from vsnapfs.archive.recall import plan_lines
    from vsnapfs.cli.progress import shown

    directory = _directory(session, given)
    archives = [step.archive.uuid for step in found.plan.steps]
    landing = Landing(directory, archives, sorted(set(given["volumes"])), resume=given["resume"])
    for line in [] if session.json else plan_lines(found.plan):
        print(printable(line), file=sys.stderr, flush=True)
    try:
        for flaw in found.flaws:
            landing.damage.flaw(flaw)
        with shown(wanted=not session.json) as report:
            done = found.recall(landing, report, publish=given["to"] is not None)
            answer = _delivered(session, found.plan, done, given, report)
        if given["to"] is None:
            landing.discard()
        return answer
    except VsnapfsError as error:
        if not landing.is_begun:
            landing.discard()
            raise
        told = f"what was recalled is in {directory}; --resume goes on with it"
        raise with_hint(error, told if error.hint is None else f"{error.hint}; {told}") from error
    finally:
        landing.close()


def _directory(session: Session, given: dict[str, Any]) -> Path:
    if given["to"] is not None:
        return Path(os.path.abspath(given["to"]))
    if given["staging"] is not None:
        return Path(os.path.abspath(given["staging"]))
    repository = Path(os.path.abspath(given["into"])) if given["into"] is not None else session.repository
    return repository.with_name(repository.name + STAGING)


def _delivered(session: Session, found: Plan, done: Recalled, given: dict[str, Any], report: Any) -> RecalledPoint:
    from vsnapfs.archive.chain import name_of

    bookmark: str | None = None
    made: str | None = None
    written: int | None = None
    to = str(given["to"])
    if given["into"] is not None:
        to, bookmark = given["into"], given["bookmark"]
        import_images(Path(os.path.abspath(to)), bookmark, found, done, report)
    elif given["branch"] is not None:
        to = given["branch"]
        written = lay_on_branch(session, to, given["on"] or "latest", found, done, report)
    elif given["medium"] is not None:
        to = given["medium"]
        made = archive_again(session, to, done, report, resume=given["resume"])
    return RecalledPoint(
        archives=done.archives,
        tapes=[tape.label for tape in found.tapes],
        point=name_of(found.point),
        to=to,
        bookmark=bookmark,
        archive=made,
        images=done.images if given["to"] is not None else {},
        written_bytes=written,
        resumed=done.resumed,
        verified=done.verified,
        flaws=done.flaws,
        lost=done.lost,
        filled=done.filled,
    )


def _lines(answer: RecalledPoint) -> Iterator[str]:
    verified = ", verified" if answer.verified and not answer.lost else ""
    made = f"bookmark {answer.bookmark} of {answer.to}" if answer.bookmark is not None else answer.to
    if answer.archive is not None:
        made = f"full archive {answer.archive[:8]} on {answer.to}"
    yield f"recalled {answer.point} from {' '.join(answer.tapes)} to {made}{verified}"
    yield from (f"  {path}" for path in answer.images.values())
    if answer.written_bytes is not None:
        yield f"  {answer.written_bytes} bytes differ from its point"
    yield from (f"damaged: {flaw.line()}" for flaw in answer.flaws[:LINES_SHOWN])
    yield from (f"lost: {lost.line()}" for lost in answer.lost[:LINES_SHOWN])
    yield from (f"from another copy: {filled.line()}" for filled in answer.filled[:LINES_SHOWN])
    more = sum(max(0, len(found) - LINES_SHOWN) for found in (answer.flaws, answer.lost, answer.filled))
    if more:
        yield f"and {more} more: --json, and VOLUME.damage beside an image"
    if answer.flaws and not answer.lost:
        yield "nothing of the volumes is lost"

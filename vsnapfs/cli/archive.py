"""``archive``: points onto tapes, into a file, or into a pipe; and what is on which tape."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import click
import msgspec

from vsnapfs.cli import archive_list
from vsnapfs.cli.archived import archived_lines
from vsnapfs.cli.arguments import POINT, SIZE, VOLUME, PointsCommand
from vsnapfs.cli.retiring import require_retirable, retire
from vsnapfs.cli.session import Session, global_options, pass_session
from vsnapfs.cli.signals import ended_as_by_hand
from vsnapfs.cli.streams import say
from vsnapfs.cli.table import printable
from vsnapfs.core.errors import UsageError
from vsnapfs.core.units import format_size

if TYPE_CHECKING:
    from vsnapfs import Repository
    from vsnapfs.archive.archiving import Archived
    from vsnapfs.archive.plain import ArchivedPlain
    from vsnapfs.archive.request import Wanted

STDOUT_FD = 1


class Archives(msgspec.Struct, frozen=True, kw_only=True):
    """What ``--json`` prints of archives on tapes."""

    archives: list[Any]
    retired: list[str]
    """Bookmarks that were removed."""


@click.command("archive", cls=PointsCommand)
@click.argument("points", nargs=-1, type=POINT, metavar="POINT…|list|drop ARCHIVE…")
@click.option("--to", metavar="MEDIUM|FILE|-", help="A [media.NAME] of the settings, a path, or standard output.")
@click.option("--since", type=POINT, metavar="POINT", help="Only what changed from there.")
@click.option("--incremental", is_flag=True, help="Only what changed since the last complete archive on the medium.")
@click.option("--volume", "volumes", type=VOLUME, multiple=True, help="Only this volume; more than once.")
@click.option(
    "--format", "form", type=click.Choice(["tar", "raw"]), default="tar", help="raw: one volume, as dd has it."
)
@click.option("--compress", is_flag=True, help="By zstd.")
@click.option("--recipient", "recipients", multiple=True, metavar="KEY", help="Encrypt to this public key of age.")
@click.option("--verify", is_flag=True, help="Read it back from the medium, and compare.")
@click.option("--rate", "rate_bytes", type=SIZE, metavar="SIZE", help="Write so much a second at most.")
@click.option("--resume", is_flag=True, help="Go on with an archive that was broken off, if there is one.")
@click.option("--retire", "retiring", is_flag=True, help="Remove the bookmark when its archive is complete.")
@click.option("--force", is_flag=True, help="Write over a file that exists.")
@click.option("--by-policy", hidden=True)
@click.option("--due", is_flag=True, help="Do what the [archive.NAME] of the settings want now, and end.")
@click.option("--policy", "policies", multiple=True, metavar="NAME", help="With --due: this one alone; more than once.")
@global_options()
@pass_session
def command(
    session: Session,
    /,
    points: tuple[str, ...],
    form: str,
    retiring: bool,
    force: bool,
    due: bool,
    policies: tuple[str, ...],
    **given: Any,
) -> int | None:
    """Archive points, each with all its volumes or those of --volume; list what is archived; drop what was broken off.

    An archive is a tar that GNU tar alone lists and extracts, on tapes in pieces that belong together. --resume without a POINT goes on
    with the archive that was broken off last. An archive with --incremental is full where the medium has none to go on from.

    Exit status: 6 a volume is damaged, or --verify has read other bytes; 7 no tape has room.
    """
    if due or policies:
        from vsnapfs.cli.archive_due import archive_due

        if points or retiring or force or form != "tar" or not due or any(given.values()):
            raise UsageError("--due takes --policy alone: all else is in the settings", hint="see [archive.NAME]")
        return archive_due(session, policies)
    if given["to"] is None and points == (archive_list.WORD,):
        archive_list.show(session)
        return None
    if given["to"] is None and points[:1] == (archive_list.DROP,):
        archive_list.drop(session, points[1:])
        return None
    _check(session, points, form, retiring, given)
    if form == "raw":
        _raw(session, points[0], force=force, **given)
        return None
    from vsnapfs.archive.request import Wanted, can_be_resumed, is_medium

    wanted = Wanted(points=points, **given)
    with ended_as_by_hand(), session.client().reading() as repository:
        if retiring:
            require_retirable(repository, wanted.points)
        with _said_how_to_go_on(wanted.to) if can_be_resumed(repository, wanted.to) else nullcontext():
            if is_medium(repository, wanted.to):
                _to_tapes(session, repository, wanted, retiring=retiring)
            else:
                _to_plain(session, repository, wanted, retiring=retiring, force=force)
    return None


@contextmanager
def _said_how_to_go_on(to: str) -> Iterator[None]:
    """To whoever has interrupted it."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"vsnapfs: broken off; with --resume, `vsnapfs archive` to {printable(to)} goes on", file=sys.stderr)
        raise


def _check(session: Session, points: tuple[str, ...], form: str, retiring: bool, given: dict[str, Any]) -> None:
    if given["to"] is None:
        raise UsageError("missing option --to", hint="give a medium of the settings, a file, or -")
    if not points and not given["resume"]:
        raise UsageError("missing argument POINT", hint="see vsnapfs archive --help")
    if given["since"] is not None and given["incremental"]:
        raise UsageError("--since and --incremental both say from where on", hint="give one of them")
    if given["rate_bytes"] == 0:
        raise UsageError("at --rate 0 nothing is ever written", hint="leave it out for as fast as it goes")
    if given["to"].endswith("/"):
        raise UsageError(f"{given['to']} is a directory", hint="give the name of a file in it")
    if given["to"] == "-" and (session.json or given["resume"] or given["verify"]):
        raise UsageError("a pipe takes no --json, --resume or --verify", hint="write to a file or a medium")
    if form == "raw":
        others = [
            name
            for name in ("since", "incremental", "compress", "recipients", "verify", "rate_bytes", "resume")
            if given[name]
        ]
        if others or retiring or len(points) != 1 or len(given["volumes"]) != 1:
            raise UsageError("--format raw is for one point and one --volume, to a file or -, without more options")


def _raw(session: Session, point: str, *, to: str, volumes: tuple[str, ...], force: bool, **_: Any) -> None:
    from vsnapfs.cli.export import export_volume

    export_volume(session, point, volumes[0], to, None, force=force)


def _to_tapes(session: Session, repository: Repository, wanted: Wanted, *, retiring: bool) -> None:
    from vsnapfs.archive.request import to_medium
    from vsnapfs.cli.progress import shown
    from vsnapfs.cli.prompt import asker

    made: list[Archived] = []
    retired: list[str] = []
    try:
        with shown(wanted=not session.json) as report:
            for archived in to_medium(repository, wanted, report, time.time_ns, asker()):
                made.append(archived)
                point = archived.archive.point
                if retiring and point.bookmark is not None and retire(session, repository, point.bookmark, point.seqno):
                    retired.append(point.bookmark)
    except BaseException:
        for line in [] if session.json else [*archived_lines(made), *_retired(retired)]:
            say(line)  # what was done stays done
        raise
    session.show(Archives(archives=made, retired=retired), [*archived_lines(made), *_retired(retired)])


def _to_plain(session: Session, repository: Repository, wanted: Wanted, *, retiring: bool, force: bool) -> None:
    from vsnapfs.archive.request import to_plain
    from vsnapfs.cli.progress import shown

    if wanted.to == "-" and os.isatty(STDOUT_FD):
        raise UsageError("standard output is a terminal", hint="give a file or a pipe")
    with shown(wanted=not session.json) as report:
        made = to_plain(repository, wanted, STDOUT_FD, report, time.time_ns(), force=force)
    lines = [_plain_line(made)]
    if retiring and retire(session, repository, made.point, made.seqno):
        lines += _retired([made.point])
    if wanted.to == "-":
        print(*lines, sep="\n", file=sys.stderr)
    else:
        session.show(made, lines)


def _retired(names: list[str]) -> Iterator[str]:
    yield from (f"removed bookmark {name}" for name in names)


def _plain_line(made: ArchivedPlain) -> str:
    verified = ", verified" if made.verified else ""
    return printable(f"{made.kind} archive of {made.point}: {format_size(made.stored_bytes)} to {made.to}{verified}")

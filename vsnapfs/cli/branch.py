"""``branch``: writable scratch on a point."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import click

from vsnapfs.cli.arguments import BRANCH, SIZE, SOURCE, PointsCommand
from vsnapfs.cli.group import NearGroup
from vsnapfs.cli.session import Session, global_options, pass_session
from vsnapfs.cli.table import moment, printable, table
from vsnapfs.core.errors import IntegrityError
from vsnapfs.core.units import format_size

if TYPE_CHECKING:
    from vsnapfs.core.branch import Branch


@click.group("branch", cls=NearGroup)
@global_options()
def command() -> None:
    """Add, list, show and remove branches: writable scratch on a point."""


@command.command("add", cls=PointsCommand)
@click.argument("name")
@click.option("--from", "source", type=SOURCE, required=True, metavar="SOURCE", help="A point, or branch:NAME.")
@click.option("--quota", "quota_bytes", type=SIZE, metavar="SIZE", help="So much may be written to it, such as 10G.")
@click.option("--note", default="", metavar="TEXT", help="What it is for.")
@global_options()
@pass_session
def add(session: Session, name: str, source: str, quota_bytes: int | None, note: str) -> None:
    """Make writable copies of all volumes at a point, or of what another branch has now. Nothing is copied: only what is
    written to it takes room. It stays until it is removed, and keeps its point."""
    from vsnapfs.daemon.requests import BranchAdd

    branch = session.ask(BranchAdd(name=name, source=source, quota_bytes=quota_bytes, note=note))
    session.show(branch, [f"added branch {branch.name} on @{branch.seqno}, {moment(branch.time)}"])


@command.command("list")
@global_options()
@pass_session
def list_(session: Session) -> None:
    """List branches, by name."""
    from vsnapfs.daemon.requests import BranchList

    answer = session.ask(BranchList())
    rows = [
        [
            branch.name,
            branch.source or "-",
            f"@{branch.seqno}",
            format_size(branch.used_bytes),
            "-" if branch.quota_bytes is None else format_size(branch.quota_bytes),
            str(branch.in_use) if branch.in_use else "-",
            branch.problem or branch.note,
        ]
        for branch in answer.branches
    ]
    session.show(answer, table(["NAME", "FROM", "POINT", "USED", "QUOTA", "OPEN", "NOTE"], rows))


@command.command("show")
@click.argument("name", type=BRANCH)
@global_options()
@pass_session
def show(session: Session, name: str) -> int:
    """Show one branch and its volumes, and the report that was kept with it. Exit status 6 if it is damaged."""
    from vsnapfs.daemon.requests import BranchShow

    branch = session.ask(BranchShow(name=name))
    rows = [[volume.name, format_size(volume.size_bytes)] for volume in branch.volumes]
    session.show(branch, [*_facts(branch), "", *table(["VOLUME", "SIZE"], rows), *_report(branch)])
    return IntegrityError.exit_status if branch.problem else 0


@command.command("promote")
@click.argument("name", type=BRANCH)
@click.option("--bookmark", metavar="NAME", help="The bookmark after it; default: the branch's name.")
@global_options()
@pass_session
def promote(session: Session, name: str, bookmark: str | None) -> None:
    """Write what a branch holds to the live volumes, between two bookmarks. Only blocks that differ are written; the branch stays."""
    from vsnapfs.cli.progress import shown
    from vsnapfs.daemon.restore import promote as promote_branch

    session.settle()
    with shown(wanted=not session.json) as report:
        done = promote_branch(session.client(), name, bookmark, report)
    lines = [
        f"promoted branch {name}, {format_size(done.changed_bytes)} written; this is bookmark {done.bookmark.name}"
    ]
    session.show(done, [*lines, "to undo it:", *done.undo])


@command.command("remove")
@click.argument("name", type=BRANCH)
@global_options()
@pass_session
def remove(session: Session, name: str) -> None:
    """Remove a branch and all that was written to it. One that is open stays; branches made from it keep what they have."""
    from vsnapfs.daemon.requests import BranchRemove

    done = session.ask(BranchRemove(name=name))
    session.show(done, [f"removed branch {name}"])


def _facts(branch: Branch) -> list[str]:
    at = f"@{branch.seqno}, {branch.time}"
    facts = {
        "branch": branch.name,
        "from": branch.source or "-",
        "point": at if branch.bookmark is None else f"{at}, bookmark {branch.bookmark} then",
        "made": branch.created,
        "used": format_size(branch.used_bytes),
        "shared": format_size(branch.shared_bytes),
        "quota": "none" if branch.quota_bytes is None else format_size(branch.quota_bytes),
        "open files": str(branch.in_use),
        "note": branch.note or "-",
        "problem": branch.problem or "none",
    }
    return [f"{name + ':':13}{printable(value)}" for name, value in facts.items()]


def _report(branch: Branch) -> list[str]:
    """What is kept with it: as who made it tells it, or as it is."""
    if branch.report is None:
        return []
    import msgspec

    from vsnapfs.core.replay import REPORT_KIND, ReplayReport

    if branch.report.get("kind") == REPORT_KIND:
        from vsnapfs.cli.replay import report_lines

        with suppress(msgspec.ValidationError):  # of another version
            return ["", *report_lines(msgspec.convert(branch.report, ReplayReport))]
    text = msgspec.json.format(msgspec.json.encode(branch.report), indent=2).decode()
    return ["", "report:", *map(printable, text.splitlines())]

"""``bookmark``: names for points."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from vsnapfs.cli.arguments import BOOKMARK, CONSISTENCY, POINT, PointsCommand
from vsnapfs.cli.group import NearGroup
from vsnapfs.cli.session import Session, global_options, pass_session
from vsnapfs.cli.table import moment, printable, table
from vsnapfs.core.errors import DegradedError, UsageError
from vsnapfs.core.times import iso, parse_iso
from vsnapfs.core.units import format_size, format_span, parse_duration

if TYPE_CHECKING:
    from vsnapfs.core.keeping import Space
    from vsnapfs.core.model import Bookmark, Consistency, MemberOutcome, Undecided
    from vsnapfs.daemon.requests import BookmarkAdd

GOOD = {None: "-", True: "good", False: "bad"}


@click.group("bookmark", cls=NearGroup)
@global_options()
def command() -> None:
    """Add, list, show, remove, hold and release bookmarks."""


@command.command("add", cls=PointsCommand)
@click.argument("name")
@click.option("--at", type=POINT, metavar="POINT", help="Name a past point; default: now.")
@click.option("--consistency", type=CONSISTENCY, default="crash", show_default=True, help="What may be assumed of it.")
@click.option("--app", "application", default="", metavar="TEXT", help="The application it belongs to.")
@click.option("--note", default="", metavar="TEXT", help="Why it was made.")
@click.option(
    "--quiesce", metavar="PROFILE", help="Make the members of a profile still for it, which says the consistency."
)
@global_options()
@pass_session
def add(
    session: Session,
    name: str,
    at: str | None,
    consistency: Consistency,
    application: str,
    note: str,
    quiesce: str | None,
) -> int:
    """Name a point. When this returns, the bookmark and all that was written before it survive a power loss.

    With --quiesce the exit status is 9 if time ran out and 1 if somebody could not be made still, and nothing was made; 8 if
    something was all the same: of less consistency, or of members that were not thawed as they should.

    With -r more than once the bookmark is made in each of these repositories, at one instant: all carry it, or none.
    """
    from vsnapfs.daemon.requests import BookmarkAdd

    request = BookmarkAdd(
        name=name, at=at, consistency=consistency, application=application, note=note, quiesce=quiesce
    )
    several = len(session.repositories_said) > 1
    bookmark = _added_to_all(session, request) if several else session.ask(request)
    session.show(bookmark, [f"added bookmark {_line(bookmark)}", *_places(bookmark), *_members(bookmark)])
    return 0 if bookmark.is_whole else DegradedError.exit_status


@command.command("list")
@click.option("--space", is_flag=True, help="Show what each takes instead; reads the maps of all of them.")
@global_options()
@pass_session
def list_(session: Session, space: bool) -> None:
    """List bookmarks, the oldest point first."""
    from vsnapfs.daemon.requests import BookmarkList, BookmarkSpace

    if space:
        found = session.ask(BookmarkSpace())
        sizes = [
            [each.bookmark, format_size(each.freed_bytes), format_size(each.shared_bytes)] for each in found.spaces
        ]
        session.show(found, table(["NAME", "FREED IF REMOVED", "SHARED"], sizes))
        return
    answer = session.ask(BookmarkList())
    rows = [
        [
            bookmark.name,
            f"@{bookmark.seqno}",
            moment(bookmark.time),
            bookmark.consistency,
            bookmark.application or "-",
            _held(bookmark),
            GOOD[bookmark.is_good],
            bookmark.note,
        ]
        for bookmark in answer.bookmarks
    ]
    listed = table(["NAME", "POINT", "TIME", "CONSISTENCY", "APP", "HELD", "VERIFIED", "NOTE"], rows)
    session.show(answer, [*listed, *map(_undecided, answer.undecided)])


@command.command("show")
@click.argument("name", type=BOOKMARK)
@click.option("--space", is_flag=True, help="Also what it takes; reads the maps of all bookmarks.")
@global_options()
@pass_session
def show(session: Session, name: str, space: bool) -> None:
    """Show one bookmark and its volumes."""
    from vsnapfs.daemon.requests import BookmarkShow

    answer = session.ask(BookmarkShow(name=name, space=space))
    rows = [
        [
            volume.name,
            format_size(volume.size_bytes),
            format_size(volume.data_bytes),
            f"@{volume.last_write_seqno}",
            moment(volume.last_write_time),
        ]
        for volume in answer.volumes
    ]
    volumes = table(["VOLUME", "SIZE", "DATA", "LAST WRITE", "TIME"], rows)
    takes = [] if answer.space is None else _takes(answer.space)
    bookmark = answer.bookmark
    lines = [*_facts(bookmark), *_verdicts(bookmark), *_places(bookmark), *_members(bookmark), *takes, "", *volumes]
    session.show(answer, lines)


@command.command("remove")
@click.argument("name", type=BOOKMARK)
@global_options()
@pass_session
def remove(session: Session, name: str) -> None:
    """Forget a bookmark's name. While its point is in the protection window, or a branch stands on it, it can still be read by
    seqno or time."""
    from vsnapfs.daemon.requests import BookmarkRemove

    bookmark = session.ask(BookmarkRemove(name=name))
    stays = f"; its point stays, for branch {', '.join(bookmark.branches)}" if bookmark.branches else ""
    session.show(bookmark, [f"removed bookmark {_line(bookmark)}{stays}"])


@command.command("hold")
@click.argument("name", type=BOOKMARK)
@click.option("--note", default="", metavar="TEXT", help="Who needs it, and why.")
@click.option("--until", metavar="TIME", help="The hold ends by itself when the journal is at this time.")
@click.option("--for", "span", metavar="SPAN", help="The same, so long from now, such as 30d.")
@global_options()
@pass_session
def hold(session: Session, name: str, note: str, until: str | None, span: str | None) -> None:
    """Keep a bookmark from being removed, by anybody and any policy."""
    from vsnapfs.daemon.requests import BookmarkHold

    bookmark = session.ask(BookmarkHold(name=name, note=note, until=_end_of_hold(until, span)))
    end = "" if bookmark.hold_until is None else f", until {moment(bookmark.hold_until)}"
    session.show(bookmark, [f"holding bookmark {_line(bookmark)}{end}"])


@command.command("release")
@click.argument("name", type=BOOKMARK)
@global_options()
@pass_session
def release(session: Session, name: str) -> None:
    """Let a held bookmark be removed again."""
    from vsnapfs.daemon.requests import BookmarkRelease

    bookmark = session.ask(BookmarkRelease(name=name))
    session.show(bookmark, [f"released bookmark {_line(bookmark)}"])


def _end_of_hold(until: str | None, span: str | None) -> str | None:
    """In UTC: the server may be in another zone. Raises: UsageError."""
    if until is not None and span is not None:
        raise UsageError("--until and --for both say when the hold ends", hint="give one of them")
    if span is not None:
        return iso(time.time_ns() + parse_duration(span))
    return None if until is None else iso(parse_iso(until))


def _held(bookmark: Bookmark) -> str:
    if not bookmark.held:
        return "-"
    return "held" if bookmark.hold_until is None else f"until {moment(bookmark.hold_until)}"


def _takes(space: Space) -> list[str]:
    return [
        f"{'freed:':13}{format_size(space.freed_bytes)} if it is removed",
        f"{'shared:':13}{format_size(space.shared_bytes)} with others",
    ]


def _hold(bookmark: Bookmark) -> str:
    if not bookmark.held:
        return "no"
    until = [] if bookmark.hold_until is None else [f"until {bookmark.hold_until}"]
    return ", ".join([bookmark.hold_note or "yes", *until])


def _added_to_all(session: Session, request: BookmarkAdd) -> Bookmark:
    from vsnapfs.daemon.federated import bookmark_all

    if request.at is not None:
        raise UsageError("a past moment cannot be named in several repositories", hint="leave out --at, or give one -r")
    return bookmark_all(
        session.repositories_said,
        request.name,
        consistency=request.consistency,
        application=request.application,
        note=request.note,
        quiesce=request.quiesce,
    )


def _members(bookmark: Bookmark) -> Iterator[str]:
    """One line for each member that was made still for a bookmark, or was not."""
    for member in bookmark.members:
        why = f": {member.error}" if member.error else ""
        what = f"{member.kind} member {member.name}, {member.outcome.replace('_', ' ')}{_still(member)}{why}"
        yield printable(what)


def _verdicts(bookmark: Bookmark) -> Iterator[str]:
    """One line for each proof of its point."""
    for verdict in bookmark.verdicts:
        by = f" by {verdict.profile}" if verdict.profile else ""
        what = f"good ({', '.join(verdict.proved)})" if verdict.good else f"NOT good: {verdict.reason}"
        yield printable(f"{'verified:':13}{verdict.time}{by}, {', '.join(verdict.volumes)}: {what}")
        yield from (printable(f"{'':13}{remark}") for remark in verdict.remarks)


def _still(member: MemberOutcome) -> str:
    """How long it was frozen, if the journal knows; it may be somebody else's."""
    if member.outcome != "frozen" or member.frozen is None or member.thawed is None:
        return ""
    try:
        return f" for {format_span(max(0, parse_iso(member.thawed) - parse_iso(member.frozen)))}"
    except UsageError:
        return ""


def _places(bookmark: Bookmark) -> Iterator[str]:
    """One line for each repository that a bookmark was made in."""
    for member in bookmark.federation.repositories if bookmark.federation else []:
        yield f"in {printable(member.path)} at @{member.seqno}"


def _line(bookmark: Bookmark) -> str:
    return f"{bookmark.name} at @{bookmark.seqno}, {moment(bookmark.time)}"


def _undecided(undecided: Undecided) -> str:
    why = f": {undecided.why}" if undecided.why else ""
    return printable(f"{undecided.name} is not decided since {undecided.since}; {undecided.first_path} knows{why}")


def _facts(bookmark: Bookmark) -> list[str]:
    facts = {
        "bookmark": bookmark.name,
        "point": f"@{bookmark.seqno}",
        "time": bookmark.time,
        "consistency": bookmark.consistency,
        "profile": bookmark.profile or "-",
        "application": bookmark.application or "-",
        "note": bookmark.note or "-",
        "held": _hold(bookmark),
    }
    return [f"{name + ':':13}{printable(value)}" for name, value in facts.items()]

"""``bookmark``: names for points."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from vsnapfs.cli.arguments import BOOKMARK, CONSISTENCY, POINT, PointsCommand
from vsnapfs.cli.group import NearGroup
from vsnapfs.cli.session import Session, global_options, pass_session
from vsnapfs.cli.table import moment, printable, table
from vsnapfs.core.errors import UsageError
from vsnapfs.core.times import iso, parse_iso
from vsnapfs.core.units import format_size, parse_duration

if TYPE_CHECKING:
    from vsnapfs.core.model import Bookmark, Consistency, Space


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
@global_options()
@pass_session
def add(session: Session, name: str, at: str | None, consistency: Consistency, application: str, note: str) -> None:
    """Name a point. When this returns, the bookmark and all that was written before it survive a power loss."""
    from vsnapfs.daemon.requests import BookmarkAdd

    request = BookmarkAdd(name=name, at=at, consistency=consistency, application=application, note=note)
    bookmark = session.ask(request)
    session.show(bookmark, [f"added bookmark {_line(bookmark)}"])


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
            bookmark.note,
        ]
        for bookmark in answer.bookmarks
    ]
    session.show(answer, table(["NAME", "POINT", "TIME", "CONSISTENCY", "APP", "HELD", "NOTE"], rows))


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
    session.show(answer, [*_facts(answer.bookmark), *takes, "", *volumes])


@command.command("remove")
@click.argument("name", type=BOOKMARK)
@global_options()
@pass_session
def remove(session: Session, name: str) -> None:
    """Forget a bookmark's name. The point can still be read by seqno or time."""
    from vsnapfs.daemon.requests import BookmarkRemove

    bookmark = session.ask(BookmarkRemove(name=name))
    session.show(bookmark, [f"removed bookmark {_line(bookmark)}"])


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


def _line(bookmark: Bookmark) -> str:
    return f"{bookmark.name} at @{bookmark.seqno}, {moment(bookmark.time)}"


def _facts(bookmark: Bookmark) -> list[str]:
    facts = {
        "bookmark": bookmark.name,
        "point": f"@{bookmark.seqno}",
        "time": bookmark.time,
        "consistency": bookmark.consistency,
        "application": bookmark.application or "-",
        "note": bookmark.note or "-",
        "held": _hold(bookmark),
    }
    return [f"{name + ':':13}{printable(value)}" for name, value in facts.items()]

"""``events``: what happened, and what happens."""

from __future__ import annotations

import select
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from vsnapfs.cli.arguments import PointsCommand
from vsnapfs.cli.session import Session, global_options, pass_session
from vsnapfs.cli.table import moment, printable
from vsnapfs.core.errors import NotFoundError, StoreError
from vsnapfs.core.events import EVENT_KINDS

if TYPE_CHECKING:
    from vsnapfs.core.events import Event
    from vsnapfs.daemon.requests import Events, GetEvents

LAST = 10
"""So many of the past are shown before what is followed."""
WAIT_S = 2.0
"""A question to the server waits so long; then it is seen whether anybody reads the answers."""
RESUME_S = 10.0
"""A server that died is followed by another in this time, if there is a keeper."""
LOOK_S = 0.2


class Kind(click.ParamType):  # type: ignore[type-arg]
    """A kind of event, which the shell completes. Whether there is such a kind the repository says."""

    name = "kind"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(kind) for kind in EVENT_KINDS if kind.startswith(incomplete)]


@click.command("events", cls=PointsCommand)
@click.option("--follow", is_flag=True, help="Show the last ones, then each as it happens; needs a server.")
@click.option("--since", metavar="TIME", help="Only from then on: 2026-11-23T10:15:00Z, or a span ago such as -1h.")
@click.option("--kind", "kinds", type=Kind(), multiple=True, metavar="KIND", help="Only of this kind; may be repeated.")
@global_options()
@pass_session
def command(session: Session, follow: bool, since: str | None, kinds: tuple[str, ...]) -> None:
    """Show what happened: bookmarks made or failed, gaps, damage, and so on; the oldest first.

    With --json one object, {"events": […]}; with --follow too, one object a line.
    """
    if follow:
        for event in _followed(session, since, list(kinds)):
            session.show(event, [_line(event)])
        return
    events = list(_told(session, since, list(kinds)))
    session.show({"events": events}, map(_line, events))


def _told(session: Session, since: str | None, kinds: list[str]) -> Iterator[Event]:
    """All there are, page by page."""
    from vsnapfs.daemon.requests import EVENTS_MAX, GetEvents

    after = 0
    while True:
        answer = session.ask(GetEvents(after=after, since=since, kinds=kinds))
        yield from answer.events
        if len(answer.events) < EVENTS_MAX:
            return
        after = answer.until_id


def _followed(session: Session, since: str | None, kinds: list[str]) -> Iterator[Event]:
    """Until the server ends. Raises: NotFoundError: there is none. BrokenPipeError: nobody reads any more."""
    from vsnapfs.daemon.requests import EVENTS_MAX, GetEvents

    if not session.client().is_served():
        raise NotFoundError(
            "no server runs, so nothing happens that could be followed",
            hint="start `vsnapfs serve`; without --follow you see what was kept",
        )
    limit, newest = (LAST, True) if since is None else (EVENTS_MAX, False)
    request = GetEvents(since=since, kinds=kinds, limit=limit, newest=newest)
    while (answer := _answer(session, request)) is not None:
        yield from answer.events
        _require_reader()
        if answer.ending:
            return
        request = GetEvents(after=answer.until_id, kinds=kinds, wait_s=WAIT_S)


def _answer(session: Session, request: GetEvents) -> Events | None:
    """Of this server, or of the one that goes on in its place. None: it has gone."""
    give_up_s = time.monotonic() + RESUME_S
    while True:
        try:
            answer = session.client().call(request)
            if answer.served:
                return answer
        except (StoreError, NotFoundError):
            """It died in the middle; by a socket alone, there is none."""
        if time.monotonic() > give_up_s:
            return None
        _require_reader()
        time.sleep(LOOK_S)


def _require_reader() -> None:
    """Raises: BrokenPipeError: standard output is a pipe that nobody reads any more."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    if any(happened & (select.POLLERR | select.POLLHUP) for _, happened in poll.poll(0)):
        raise BrokenPipeError


def _line(event: Event) -> str:
    detail = ", ".join(f"{name} {_said(value)}" for name, value in event.detail.items() if value not in (None, "", []))
    about = f" {event.subject}" if event.subject else ""
    line = f"{moment(event.time)}  {event.severity:7}  {event.kind}{about}: {event.text}" + (
        f" ({detail})" if detail else ""
    )
    return printable(line)


def _said(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(_said, value))
    if isinstance(value, dict):
        return " ".join(f"{name}={_said(member)}" for name, member in value.items())
    return str(value)

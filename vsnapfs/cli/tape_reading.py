"""``tape verify`` and ``tape scan``: what stands on tapes, read from them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from vsnapfs.cli.session import Session, global_options, pass_session
from vsnapfs.cli.signals import ended_as_by_hand
from vsnapfs.cli.table import printable
from vsnapfs.core.errors import IntegrityError
from vsnapfs.core.units import format_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vsnapfs.archive.given import Unread
    from vsnapfs.archive.inspection import Inspected

FROM = click.option(
    "--from",
    "places",
    multiple=True,
    metavar="PLACE",
    help="A pool, a tape of one, a file, a drive, or a medium of the settings; more than once. Default: all media.",
)


class TapesVerified(msgspec.Struct, frozen=True, kw_only=True):
    """What ``tape verify --json`` prints."""

    tapes: list[Inspected]
    unread: list[str]
    """What is not there or does not answer, and why."""
    sound: bool


class TapesScanned(msgspec.Struct, frozen=True, kw_only=True):
    """What ``tape scan --json`` prints: what was seen, which the catalog knows now."""

    tapes: list[str]
    archives: int
    pieces: int
    new_archives: list[str]
    """uuids of those that the catalog had not known."""
    passed_over: list[str]
    """Labels of tapes that were not taken, since other tapes in the catalog have them."""
    flaws: list[str]
    unread: list[str]
    """As of ``TapesVerified``."""


@click.command("verify")
@click.argument("labels", nargs=-1, metavar="LABEL...")
@FROM
@global_options()
@pass_session
def verify(session: Session, labels: tuple[str, ...], places: tuple[str, ...]) -> int:
    """Read whole tapes, and compare each byte with what their indexes say. Without a LABEL all that are there.

    A tape that is not there or does not answer keeps none of the others from being read. Exit status: 6 something is not as it
    was written, and where; else that of the first that could not be read, such as 3 for one that is not there.
    """
    from vsnapfs.archive.inspection import inspect
    from vsnapfs.archive.places import How, reached
    from vsnapfs.cli.progress import shown
    from vsnapfs.cli.prompt import asker

    unread: list[Unread] = []
    media = None if places else unread
    with (
        ended_as_by_hand(),
        reached(places, _repository(session, places), How(labels, asker()), media) as (given, catalog),
        shown(wanted=not session.json) as report,
    ):
        found = list(inspect(given, labels, catalog, report, unread))
    _require_some(found, unread)
    sound = all(one.is_sound for one in found)
    answer = TapesVerified(tapes=found, unread=_lines(unread), sound=sound and not unread)
    session.show(answer, _verified(answer))
    return _status(damaged=not sound, unread=unread)


@click.command("scan")
@FROM
@click.option(
    "--tape", "labels", multiple=True, metavar="LABEL", help="Look at this one in a drive; more than once, in order."
)
@click.option(
    "--identity", "identities", multiple=True, type=click.Path(), metavar="FILE", help="A private key of age."
)
@global_options()
@pass_session
def scan(session: Session, places: tuple[str, ...], labels: tuple[str, ...], identities: tuple[str, ...]) -> int:
    """Make the catalog of tapes of a repository again, by reading what stands on them: labels and indexes alone.

    What the catalog knows already stays. Again, it changes nothing. What is damaged or does not answer keeps nothing else from being
    known. Exit status: 6 something is damaged; else that of the first tape or medium that does not answer.
    """
    from vsnapfs.archive.places import How, rescan
    from vsnapfs.cli.prompt import asker

    keys = [Path(path) for path in identities]
    with ended_as_by_hand():
        done = rescan(session.repository, places, How(labels, asker()), keys)
    _require_some(done.found.tapes, done.unread)
    answer = TapesScanned(
        tapes=[tape.label for tape in done.found.tapes],
        archives=len(done.found.archives),
        pieces=len(done.found.pieces),
        new_archives=done.new_archives,
        passed_over=done.passed_over,
        flaws=[flaw.line() for flaw in done.flaws],
        unread=_lines(done.unread),
    )
    session.show(answer, _scanned(answer))
    return _status(damaged=bool(answer.flaws), unread=done.unread)


def _repository(session: Session, places: tuple[str, ...]) -> Path | None:
    """None: paths alone were given, and no repository."""
    if (
        session.repositories_said
        or not places
        or any(os.sep not in place and not os.path.lexists(place) for place in places)
    ):
        return session.repository
    return None


def _require_some(read: Sequence[object], unread: list[Unread]) -> None:
    """Where nothing could be read that is all there is to say."""
    if unread and not read:
        raise unread[0].error


def _lines(unread: list[Unread]) -> list[str]:
    return [one.line() for one in unread]


def _status(*, damaged: bool, unread: list[Unread]) -> int:
    if damaged:
        return IntegrityError.exit_status
    return unread[0].error.exit_status if unread else 0


def _verified(answer: TapesVerified) -> Iterator[str]:
    for one in answer.tapes:
        state = "sound" if one.is_sound else f"{len(one.flaws)} places are damaged"
        behind = ", and what was broken off" if one.broken_off else ""
        yield f"{one.label}: {one.pieces} pieces, {format_size(one.stored_bytes)}{behind}: {state}"
        yield from (printable(f"  {flaw.line()}") for flaw in one.flaws)
    yield from (printable(f"not read: {line}") for line in answer.unread)


def _scanned(answer: TapesScanned) -> Iterator[str]:
    new = f", {len(answer.new_archives)} of them new" if answer.new_archives else ""
    yield f"{len(answer.tapes)} tapes hold {answer.pieces} pieces of {answer.archives} archives{new}"
    yield from (f"not taken: tape {label}, since another tape has that label here" for label in answer.passed_over)
    yield from (printable(f"damaged: {line}") for line in answer.flaws)
    yield from (printable(f"not read: {line}") for line in answer.unread)

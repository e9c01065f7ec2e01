"""``tape``: the tapes that archives are on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vsnapfs.cli.arguments import Name
from vsnapfs.cli.group import NearGroup
from vsnapfs.cli.session import Session, global_options, pass_session
from vsnapfs.cli.table import moment, printable, table
from vsnapfs.cli.tape_needed import needed
from vsnapfs.cli.tape_reading import scan, verify
from vsnapfs.core.units import format_period, format_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vsnapfs.core.tapes import PointCopies, TapeDetail, TapePiece, TapeShown, TapeStranger

UUID_SHOWN = 8


def _labels(session: Session) -> list[str]:
    from vsnapfs.archive.tapes import tape_labels

    return tape_labels(session.repository)


def _media(session: Session) -> list[str]:
    from vsnapfs.archive.tapes import medium_names

    return medium_names(session.repository)


LABEL = Name(_labels)
MEDIUM = Name(_media)


@click.group("tape", cls=NearGroup)
@global_options()
def command() -> None:
    """List, show, label, retire and protect tapes; read them."""


command.add_command(verify)
command.add_command(scan)
command.add_command(needed)


@command.command("list")
@click.argument("medium", type=MEDIUM, required=False)
@click.option("--look", is_flag=True, help="Also into drives and changers, which may have to move for it.")
@global_options()
@pass_session
def list_(session: Session, medium: str | None, look: bool) -> None:
    """List the tapes of the catalog, and what else is in their media."""
    from vsnapfs.archive.tapes import tape_list

    found = tape_list(session.repository, medium, look=look)
    lines = [
        *table(["TAPE", "MEDIUM", "STATE", "USED", "CAPACITY", "ARCHIVES", "WRITTEN", "NOTE"], map(_row, found.tapes))
    ]
    session.show(found, [*lines, *map(_stranger, found.strangers)])


@command.command("show")
@click.argument("label", type=LABEL)
@global_options()
@pass_session
def show(session: Session, label: str) -> None:
    """Show one tape and the pieces of archives on it."""
    from vsnapfs.archive.tapes import tape_show

    found = tape_show(session.repository, label)
    heads = ["FILE", "ARCHIVE", "PIECE", "KIND", "POINT", "SIZE", "STATE"]
    session.show(found, [*_facts(found), "", *table(heads, map(_piece, found.pieces))])


@command.command("copies")
@global_options()
@pass_session
def copies(session: Session) -> None:
    """List bookmarks, and points that are on tape: how old, how often, since when, and which tapes the newest copy needs."""
    from vsnapfs.archive.copies import copy_list
    from vsnapfs.daemon.requests import BookmarkList

    found = copy_list(session.repository, session.ask(BookmarkList()).bookmarks)
    heads = ["POINT", "SEQNO", "TIME", "AGE", "ON DISK", "ON TAPE", "NEWEST COPY", "AGE", "TAPES"]
    session.show(found, table(heads, map(_point, found.points)))


@command.command("label")
@click.argument("medium", type=MEDIUM)
@click.argument("label", required=False)
@click.option("--note", default="", metavar="TEXT", help="What it is for; stands on the tape too.")
@click.option("--force", is_flag=True, help="Write over what stands on it: all of that is gone.")
@global_options()
@pass_session
def label_(session: Session, medium: str, label: str | None, note: str, force: bool) -> None:
    """Write a label on a tape: a new one of a pool, the one in the drive, or the one with that barcode.

    Without LABEL it gets the next one of the medium's pattern.
    """
    from vsnapfs.archive.tapes import tape_label
    from vsnapfs.cli.prompt import asker

    tape = tape_label(session.repository, medium, label, note=note, force=force, ask=asker())
    session.show(tape, [f"labelled tape {tape.label} of {tape.medium}"])


@command.command("retire")
@click.argument("label", type=LABEL)
@click.option("--force", is_flag=True, help="Also if archives on other tapes need it.")
@global_options()
@pass_session
def retire(session: Session, label: str, force: bool) -> None:
    """Say that nothing on a tape counts any more: after its retention it may be written over."""
    from vsnapfs.archive.tapes import tape_retire

    tape = tape_retire(session.repository, label, force=force)
    given_up = f"; {tape.archives} archives on it count no more" if tape.archives else ""
    when = "" if tape.free_from is None else f"; it may be written over from {moment(tape.free_from)} on"
    session.show(tape, [f"retired tape {tape.label}{given_up}{when}"])


@command.command("protect")
@click.argument("label", type=LABEL)
@click.option("--off", is_flag=True, help="It may be written to again.")
@global_options()
@pass_session
def protect(session: Session, label: str, off: bool) -> None:
    """Say that nothing more is written to a tape, whatever becomes of what is on it."""
    from vsnapfs.archive.tapes import tape_protect

    tape = tape_protect(session.repository, label, protected=not off)
    session.show(tape, [f"tape {tape.label} is {'not ' if off else ''}protected"])


def _point(copies: PointCopies) -> list[str]:
    newest = copies.on_tape[-1] if copies.on_tape else None
    return [
        copies.point.bookmark or "-",
        f"@{copies.point.seqno}",
        moment(copies.point.time),
        format_period(copies.age_s),
        "yes" if copies.on_disk else "no",
        str(len(copies.on_tape)),
        "-" if newest is None else moment(newest.made),
        "-" if newest is None else format_period(newest.age_s),
        "-" if newest is None else " ".join(newest.tapes),
    ]


def _state(tape: TapeShown) -> str:
    return f"{tape.state}, protected" if tape.protected or tape.read_only else tape.state


def _row(tape: TapeShown) -> list[str]:
    return [
        tape.label,
        tape.medium,
        _state(tape),
        format_size(tape.used_bytes),
        "-" if tape.capacity_bytes is None else format_size(tape.capacity_bytes),
        str(tape.archives),
        "-" if tape.written is None else moment(tape.written),
        tape.note,
    ]


def _stranger(found: TapeStranger) -> str:
    if found.label is None:
        return printable(f"{found.medium}: {found.place} is no tape of its")
    what = "is blank" if found.blank else "is not in the catalog"
    return printable(f"{found.medium}: tape {found.label} in {found.place} {what}")


def _facts(found: TapeDetail) -> Iterator[str]:
    tape = found.tape
    facts = {
        "tape": f"{tape.label}, generation {tape.generation}, {tape.uuid}",
        "medium": tape.medium or "-",
        "place": tape.place or "-",
        "state": _state(tape),
        "made": moment(tape.made),
        "written": "-" if tape.written is None else moment(tape.written),
        "free from": "-" if tape.free_from is None else moment(tape.free_from),
        "used": format_size(tape.used_bytes),
        "needed by": f"{len(found.needed_by)} archives" if found.needed_by else "none",
        "note": tape.note or "-",
    }
    return (f"{name + ':':11}{printable(value)}" for name, value in facts.items())


def _piece(piece: TapePiece) -> list[str]:
    point = piece.point.bookmark or f"@{piece.point.seqno}"
    size = format_size(piece.stored_bytes)
    return [
        str(piece.file),
        piece.archive[:UUID_SHOWN],
        str(piece.number),
        piece.kind,
        point,
        size,
        piece.archive_state,
    ]

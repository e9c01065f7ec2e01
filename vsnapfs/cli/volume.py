"""``volume``: what is protected."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from vsnapfs.cli.arguments import POINT, SIZE, VOLUME, PointsCommand
from vsnapfs.cli.group import NearGroup
from vsnapfs.cli.session import Session, global_options, pass_session
from vsnapfs.cli.table import printable, table
from vsnapfs.core.errors import UsageError
from vsnapfs.core.units import format_size

if TYPE_CHECKING:
    from vsnapfs.core.model import Volume


@click.group("volume", cls=NearGroup)
@global_options()
def command() -> None:
    """Add, list, remove, resize and resync volumes."""


@command.command("add")
@click.argument("name")
@click.option("--size", "size_bytes", type=SIZE, metavar="SIZE", help="Thin volume of that size, such as 10G.")
@click.option(
    "--primary", type=click.Path(), metavar="PATH", help="Image or block device to protect; its content is the start."
)
@click.option("--block-size", type=click.Choice(["512", "4096"]), default="512", show_default=True, help="Bytes.")
@global_options()
@pass_session
def add(session: Session, name: str, size_bytes: int | None, primary: str | None, block_size: str) -> None:
    """Protect a volume: a new thin one (--size), or an image or device that exists (--primary)."""
    from vsnapfs.daemon.requests import VolumeAdd

    if (size_bytes is None) == (primary is None):
        raise UsageError("a volume is new or exists already", hint="give --size SIZE or --primary PATH")
    path = os.path.abspath(primary) if primary is not None else None
    request = VolumeAdd(name=name, size_bytes=size_bytes, primary=path, block_size_bytes=int(block_size))
    volume = session.ask(request)
    session.show(volume, [f"added volume {volume.name}: {format_size(volume.size_bytes)}, {_place(volume)}"])


@command.command("list", cls=PointsCommand)
@click.option("--at", "point", type=POINT, metavar="POINT", help="As it was then; default: now.")
@click.option("--removed", is_flag=True, help="Also volumes that were removed.")
@global_options()
@pass_session
def list_(session: Session, point: str | None, removed: bool) -> None:
    """List volumes."""
    from vsnapfs.daemon.requests import VolumeList

    answer = session.ask(VolumeList(point=point, removed=removed))
    rows = [
        [
            volume.name,
            format_size(volume.size_bytes),
            str(volume.block_size_bytes),
            f"@{volume.added_seqno}",
            "removed" if volume.removed else _place(volume),
        ]
        for volume in answer.volumes
    ]
    session.show(answer, table(["NAME", "SIZE", "BLOCK", "ADDED", "PRIMARY"], rows))


@command.command("remove")
@click.argument("name", type=VOLUME)
@global_options()
@pass_session
def remove(session: Session, name: str) -> None:
    """End a volume's protection. Its history stays readable."""
    from vsnapfs.daemon.requests import VolumeRemove

    volume = session.ask(VolumeRemove(name=name))
    session.show(volume, [f"removed volume {volume.name}; its history stays"])


@command.command("resize")
@click.argument("name", type=VOLUME)
@click.argument("size_bytes", type=SIZE, metavar="SIZE")
@global_options()
@pass_session
def resize(session: Session, name: str, size_bytes: int) -> None:
    """Change a volume's size, such as 20G. What is cut off stays in the history."""
    from vsnapfs.daemon.requests import VolumeResize

    volume = session.ask(VolumeResize(name=name, size_bytes=size_bytes))
    session.show(volume, [f"resized volume {volume.name} to {format_size(volume.size_bytes)}"])


@command.command("resync")
@click.argument("name", type=VOLUME, required=False)
@global_options()
@pass_session
def resync(session: Session, name: str | None) -> None:
    """Close the gap that a journal left which had failed. With NAME also journal what differs on its primary, after that
    was written past vsnapfs."""
    from vsnapfs.daemon.requests import VolumeResync

    answer = session.ask(VolumeResync(name=name))
    what = "resynced" if answer.volume is None else f"resynced volume {answer.volume}"
    session.show(answer, [f"{what}: {format_size(answer.changed_bytes)} differed"])


def _place(volume: Volume) -> str:
    """Where the primary is, in words."""
    return printable(volume.primary_path or "none")

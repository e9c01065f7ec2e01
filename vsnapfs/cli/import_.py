"""``import``: images as a new point."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from vsnapfs.cli.arguments import CONSISTENCY
from vsnapfs.cli.session import Session, global_options, pass_session
from vsnapfs.cli.table import moment
from vsnapfs.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vsnapfs.core.model import Consistency


@click.command("import")
@click.argument("images", nargs=-1, required=True, metavar="VOLUME=IMAGE...")
@click.option("--bookmark", required=True, metavar="NAME", help="Name of the new point.")
@click.option("--consistency", type=CONSISTENCY, default="crash", show_default=True, help="What may be assumed of it.")
@click.option("--app", "application", default="", metavar="TEXT", help="The application it belongs to.")
@click.option("--note", default="", metavar="TEXT", help="Why it was made.")
@global_options()
@pass_session
def command(
    session: Session, images: tuple[str, ...], bookmark: str, consistency: Consistency, application: str, note: str
) -> None:
    """Take images in as a new point.

    An IMAGE is a file, a device or an array's snapshot; only what differs is journalled. A VOLUME that is not there
    yet is added, without a primary.
    """
    from vsnapfs.daemon.requests import Import

    request = Import(
        images=parse_images(images), bookmark=bookmark, consistency=consistency, application=application, note=note
    )
    made = session.ask(request)
    session.show(made, [f"imported as bookmark {made.name} at @{made.seqno}, {moment(made.time)}"])


def parse_images(pairs: Sequence[str]) -> dict[str, str]:
    """Absolute path of the image by volume. Raises: UsageError: not VOLUME=IMAGE, or a volume twice."""
    images: dict[str, str] = {}
    for pair in pairs:
        volume, equals, image = pair.partition("=")
        if not (volume and equals and image):
            raise UsageError(f"{pair!r} is not VOLUME=IMAGE", hint="such as db0=/dev/vg/db0-snap")
        if volume in images:
            raise UsageError(f"volume {volume!r} is given twice")
        images[volume] = os.path.abspath(image)
    return images

"""``anchor``: print what proves later that the past was not rewritten."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from vsnapfs.cli.session import Session, global_options, pass_session

if TYPE_CHECKING:
    from vsnapfs.core.model import Anchor

KEY_HELP = "File of the key for the anchor's MAC; default: the settings."


@click.command("anchor")
@click.option("--anchor-key", type=click.Path(), metavar="FILE", help=KEY_HELP)
@global_options()
@pass_session
def command(session: Session, anchor_key: str | None) -> None:
    """Print a value that proves the past.

    It speaks of everything up to the last sealed segment. Keep it where those who write to the repository cannot;
    vsnapfs check --anchor VALUE holds the repository against it.
    """
    from vsnapfs.daemon.requests import GetAnchor

    found: Anchor = session.ask(GetAnchor(key=None if anchor_key is None else os.path.abspath(anchor_key)))
    session.show(found, [found.value])

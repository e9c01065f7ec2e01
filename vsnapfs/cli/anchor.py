"""``anchor``: print what proves later that the past was not rewritten."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vsnapfs.cli.session import Session, global_options, pass_session

if TYPE_CHECKING:
    from vsnapfs.core.findings import Anchor

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

    found: Anchor = session.ask(GetAnchor(key=key_in(session, anchor_key)))
    session.show(found, [found.value])


def key_in(session: Session, path: str | None) -> bytes | None:
    """The key in a file, read with the rights of who asks."""
    from vsnapfs.daemon.client import read_key

    return None if path is None else read_key(Path(path), session.repository)

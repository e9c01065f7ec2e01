"""``init``: make a repository."""

from __future__ import annotations

import click

from vsnapfs.cli.session import Session, global_options, pass_session


@click.command("init")
@global_options()
@pass_session
def command(session: Session) -> None:
    """Make a repository at -r REPO.

    The directory is empty, or not there yet.
    """
    from vsnapfs.daemon.client import create

    uuid = create(session.repository)
    answer = {"repository": str(session.repository), "uuid": uuid}
    session.show(answer, [f"made repository {session.repository}"])

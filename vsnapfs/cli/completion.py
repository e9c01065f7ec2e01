"""``completion``: what makes the shell complete commands, options, bookmarks and volumes."""

from __future__ import annotations

import click

from vsnapfs.cli.session import Session, global_options, pass_session

COMPLETE_VARIABLE = "_VSNAPFS_COMPLETE"


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@global_options()
@pass_session
def command(session: Session, shell: str) -> None:
    """Print the completion script of a shell. For bash: vsnapfs completion bash > /etc/bash_completion.d/vsnapfs"""
    from click.shell_completion import get_completion_class

    root = click.get_current_context().find_root().command
    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(root, {}, "vsnapfs", COMPLETE_VARIABLE).source()
    session.show({"shell": shell, "script": script}, [script.rstrip()])

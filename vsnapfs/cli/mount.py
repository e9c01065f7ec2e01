"""``mount``: the read-only tree without a server."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vsnapfs.cli.data_option import HELP, MODES
from vsnapfs.cli.mount_options import Given, parse
from vsnapfs.cli.session import Session, global_options, pass_session

if TYPE_CHECKING:
    from vsnapfs.core.model import DataMode


@click.command("mount")
@click.argument("mountpoint", metavar="MOUNT", type=click.Path())
@click.option(
    "-o", "options", multiple=True, metavar="OPTIONS", help="As in fstab: ro,allow_other,data=MODE,noauto,x-…"
)
@click.option("--data", type=click.Choice(MODES), help=HELP)
@click.option("-f", "--foreground", is_flag=True, help="Stay in the foreground.")
@click.option("--ready-fd", type=int, hidden=True)
@global_options()
@pass_session
def command(
    session: Session,
    mountpoint: str,
    options: tuple[str, ...],
    data: DataMode | None,
    foreground: bool,
    ready_fd: int | None,
) -> None:
    """Show all points read-only, without a server.

    Works beside a server too, and on a copy that cannot be written. Returns when the mount answers; umount MOUNT
    ends it. In fstab: REPO MOUNT fuse.vsnapfs ro,noauto 0 0
    """
    words = [*options, f"data={data}"] if data else options
    given = parse(words)
    target = Path(os.path.abspath(mountpoint))
    if foreground or ready_fd is not None:
        _stay(session, target, given, ready_fd)
    else:
        _leave(session, target, words)


def _stay(session: Session, target: Path, options: Given, ready_fd: int | None) -> None:
    from vsnapfs.daemon.background import tell_ready
    from vsnapfs.daemon.logs import set_up
    from vsnapfs.daemon.mount import show
    from vsnapfs.daemon.serving import MountOptions

    set_up("auto" if ready_fd is None else "syslog")

    def announce() -> None:
        if ready_fd is None:
            _tell(session, target, os.getpid())
        else:
            tell_ready(ready_fd)

    show(session.repository, target, MountOptions(allow_other=options.allow_other, data=options.data), announce)


def _leave(session: Session, target: Path, options: Sequence[str]) -> None:
    from vsnapfs.daemon.background import start

    given = [word for option in options for word in ("-o", option)]
    pid = start(["--repo", str(session.repository), "--json", "mount", str(target), *given])
    _tell(session, target, pid)


def _tell(session: Session, target: Path, pid: int) -> None:
    ready = {"repository": str(session.repository), "mountpoint": str(target), "pid": pid}
    session.show(ready, [f"mounted {session.repository} at {target}"])

"""``mount``: the read-only tree without a server."""

from __future__ import annotations

import os
from pathlib import Path

import click

from vsnapfs.cli.mount_options import parse
from vsnapfs.cli.session import Session, global_options, pass_session


@click.command("mount")
@click.argument("mountpoint", metavar="MOUNT", type=click.Path())
@click.option("-o", "options", multiple=True, metavar="OPTIONS", help="As in fstab: ro,allow_other,noauto,x-…")
@click.option("-f", "--foreground", is_flag=True, help="Stay in the foreground.")
@click.option("--ready-fd", type=int, hidden=True)
@global_options()
@pass_session
def command(
    session: Session, mountpoint: str, options: tuple[str, ...], foreground: bool, ready_fd: int | None
) -> None:
    """Show all points read-only, without a server.

    Works beside a server too, and on a copy that cannot be written. Returns when the mount answers; umount MOUNT
    ends it. In fstab: REPO MOUNT fuse.vsnapfs ro,noauto 0 0
    """
    allow_other = parse(options)
    target = Path(os.path.abspath(mountpoint))
    if foreground or ready_fd is not None:
        _stay(session, target, allow_other, ready_fd)
    else:
        _leave(session, target, options)


def _stay(session: Session, target: Path, allow_other: bool | None, ready_fd: int | None) -> None:
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

    show(session.repository, target, MountOptions(allow_other=allow_other), announce)


def _leave(session: Session, target: Path, options: tuple[str, ...]) -> None:
    from vsnapfs.daemon.background import start

    given = [word for option in options for word in ("-o", option)]
    pid = start(["--repo", str(session.repository), "--json", "mount", str(target), *given])
    _tell(session, target, pid)


def _tell(session: Session, target: Path, pid: int) -> None:
    ready = {"repository": str(session.repository), "mountpoint": str(target), "pid": pid}
    session.show(ready, [f"mounted {session.repository} at {target}"])

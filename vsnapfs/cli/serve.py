"""``serve``: capture, mount, answer; in the foreground until SIGTERM or umount."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vsnapfs.cli.data_option import HELP, MODES
from vsnapfs.cli.session import Session, global_options, pass_session

if TYPE_CHECKING:
    from vsnapfs.core.model import DataMode


@click.command("serve")
@click.argument("mountpoint", metavar="MOUNT", type=click.Path())
@click.option("--allow-other/--no-allow-other", default=None, help="Let other users look in; default: the settings.")
@click.option("--data", type=click.Choice(MODES), help=HELP)
@click.option("--log-json", is_flag=True, help="Log JSON lines on a terminal too.")
@global_options()
@pass_session
def command(session: Session, mountpoint: str, allow_other: bool | None, data: DataMode | None, log_json: bool) -> None:
    """Capture, mount and answer, until SIGTERM.

    MOUNT/live has the writable volumes; MOUNT/snaps, MOUNT/at and MOUNT/diff have the points. Stays in the
    foreground and says when it is ready; SIGTERM, or umount MOUNT, ends it cleanly.
    """
    from vsnapfs.daemon.logs import set_up
    from vsnapfs.daemon.server import serve
    from vsnapfs.daemon.serving import MountOptions

    target = Path(os.path.abspath(mountpoint))
    set_up("json" if log_json else "auto")

    def announce() -> None:
        ready = {"repository": str(session.repository), "mountpoint": str(target), "pid": os.getpid()}
        session.show(ready, [f"serving {session.repository} at {target}"])

    serve(session.repository, target, MountOptions(allow_other=allow_other, data=data), announce)

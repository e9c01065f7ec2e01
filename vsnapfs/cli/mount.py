"""``mount``: the read-only tree without a server."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vsnapfs.cli.arguments import MountPath
from vsnapfs.cli.data_option import HELP, MODES
from vsnapfs.cli.keeping import Keeper, keeper_options, run
from vsnapfs.cli.mount_options import SOUND_PART, Given, parse
from vsnapfs.cli.session import Session, global_options, pass_session

if TYPE_CHECKING:
    from vsnapfs.core.model import DataMode
    from vsnapfs.daemon.holding import Holding


@click.command("mount")
@click.argument("mountpoint", metavar="MOUNT", type=MountPath())
@click.option(
    "-o", "options", multiple=True, metavar="OPTIONS", help="As in fstab: ro,allow_other,data=MODE,noauto,x-…"
)
@click.option("--data", type=click.Choice(MODES), help=HELP)
@click.option("--sound-part", is_flag=True, help="Of a damaged journal show what stands before the damage.")
@click.option("-f", "--foreground", is_flag=True, help="Stay in the foreground.")
@click.option("--ready-fd", type=int, hidden=True)
@keeper_options
@global_options()
@pass_session
def command(
    session: Session,
    mountpoint: str,
    options: tuple[str, ...],
    data: DataMode | None,
    sound_part: bool,
    foreground: bool,
    ready_fd: int | None,
    keeper: Keeper,
    worker: str | None,
) -> int:
    """Show all points read-only, without a server.

    Works beside a server too, and on a copy that cannot be written. Returns when the mount answers; umount MOUNT
    ends it. In fstab: REPO MOUNT fuse.vsnapfs ro,noauto 0 0
    """
    words = [*options, *([f"data={data}"] if data else []), *([SOUND_PART] if sound_part else [])]
    given = parse(words)
    target = Path(os.path.abspath(mountpoint))
    again = ["mount", str(target), *(word for option in words for word in ("-o", option))]
    if foreground or ready_fd is not None or worker is not None:
        return _stay(session, target, given, ready_fd, keeper, worker, again)
    _leave(session, target, [*again, "--keeper", keeper])
    return 0


def _stay(
    session: Session,
    target: Path,
    options: Given,
    ready_fd: int | None,
    keeper: Keeper,
    worker: str | None,
    again: list[str],
) -> int:
    from vsnapfs.daemon.background import tell_ready
    from vsnapfs.daemon.logs import set_up

    set_up("auto")

    def announce() -> None:
        if ready_fd is None:
            _tell(session, target, os.getpid())
        else:
            tell_ready(ready_fd)

    def work(holding: Holding, ready: Callable[[], None]) -> None:
        from vsnapfs.daemon.mount import show
        from vsnapfs.daemon.serving import MountOptions

        chosen = MountOptions(allow_other=options.allow_other, data=options.data, sound_part=options.sound_part)
        show(session.repository, target, chosen, ready, holding)

    background = ready_fd is not None
    return run(session, work, announce, keeper, worker, again=again, live=False, background=background)


def _leave(session: Session, target: Path, again: list[str]) -> None:
    from vsnapfs.daemon.background import start

    _tell(session, target, start(["--json", "--repo", str(session.repository), *again]))


def _tell(session: Session, target: Path, pid: int) -> None:
    ready = {"repository": str(session.repository), "mountpoint": str(target), "pid": pid}
    session.show(ready, [f"mounted {session.repository} at {target}"])

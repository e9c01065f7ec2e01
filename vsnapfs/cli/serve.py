"""``serve``: capture, mount, answer; in the foreground until SIGTERM or umount."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vsnapfs.cli.arguments import MountPath
from vsnapfs.cli.data_option import HELP, MODES
from vsnapfs.cli.keeping import Keeper, keeper_options, run
from vsnapfs.cli.session import Session, global_options, pass_session

if TYPE_CHECKING:
    from vsnapfs.core.model import DataMode
    from vsnapfs.daemon.holding import Holding


@click.command("serve")
@click.argument("mountpoint", metavar="MOUNT", type=MountPath())
@click.option("--allow-other/--no-allow-other", default=None, help="Let other users look in; default: the settings.")
@click.option("--data", type=click.Choice(MODES), help=HELP)
@click.option("--log-json", is_flag=True, help="Log JSON lines on a terminal too.")
@keeper_options
@global_options()
@pass_session
def command(
    session: Session,
    mountpoint: str,
    allow_other: bool | None,
    data: DataMode | None,
    log_json: bool,
    keeper: Keeper,
    worker: str | None,
) -> int:
    """Capture, mount and answer, until SIGTERM.

    MOUNT/live has the writable volumes; MOUNT/snaps, MOUNT/at and MOUNT/diff have the points. Stays in the
    foreground and says when it is ready; SIGTERM, or umount MOUNT, ends it cleanly.
    """
    from vsnapfs.daemon.logs import set_up

    target = Path(os.path.abspath(mountpoint))
    set_up("json" if log_json else "auto")

    def announce() -> None:
        ready = {"repository": str(session.repository), "mountpoint": str(target), "pid": os.getpid()}
        session.show(ready, [f"serving {session.repository} at {target}"])

    def work(holding: Holding, ready: Callable[[], None]) -> None:
        from vsnapfs.daemon.server import serve
        from vsnapfs.daemon.serving import MountOptions

        serve(session.repository, target, MountOptions(allow_other=allow_other, data=data), ready, holding)

    again = ["serve", str(target), *_again(allow_other, data), *(["--log-json"] if log_json else [])]
    return run(session, work, announce, keeper, worker, again=again, live=True, background=False)


def _again(allow_other: bool | None, data: DataMode | None) -> list[str]:
    others = [] if allow_other is None else ["--allow-other" if allow_other else "--no-allow-other"]
    return others + ([] if data is None else ["--data", data])

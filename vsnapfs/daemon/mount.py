"""``mount``: the read-only tree, without a server, beside one, or of a copy that cannot be written.

It takes no lock and changes nothing. The tree itself looks for new bookmarks whenever it is asked something.
"""

from __future__ import annotations

from contextlib import closing
from functools import partial
from pathlib import Path

import structlog
import trio

from vsnapfs.daemon.client import open_repository
from vsnapfs.daemon.holding import Holding
from vsnapfs.daemon.serving import (
    Announce,
    MountOptions,
    allow_many_files,
    announced,
    errors_unwrapped,
    mount_of,
    mounted,
)

in_thread = trio.to_thread.run_sync
log = structlog.get_logger()


def show(path: Path, mountpoint: Path, options: MountOptions, announce: Announce, holding: Holding) -> None:
    """Show the tree until a signal or ``umount``. ``holding`` is closed at the end. Raises: what Repository.open and
    Mount.run raise."""
    allow_many_files()
    with closing(holding), errors_unwrapped():
        trio.run(_show, path, mountpoint, options, announce, holding)
        holding.ended()


async def _show(path: Path, mountpoint: Path, options: MountOptions, announce: Announce, holding: Holding) -> None:
    repository = await in_thread(partial(open_repository, path, owner=False, sound_part=options.sound_part))
    try:
        broken = repository.journal.broken()
        if broken is not None:
            log.error("only what stands before damage is shown, see vsnapfs check", reason=broken[0].text)
        mount = mount_of(repository, mountpoint, options, holding, live=False)
        async with mounted(mount, holding) as life:
            log.info("showing", repository=str(repository.path), mountpoint=str(mount.mountpoint))
            announced(holding, announce)
            await life.ending.wait()
    finally:
        with trio.CancelScope(shield=True):
            await in_thread(repository.close)
    log.info("ended")

"""Restores into a file whose filesystem is shut down over it: a loss of power without a machine that loses it.

    python -m tests.crash.restore_shutdown --count 60 --seed 1

What was not on stable storage is lost, the state of the restore and the names in the directory among it; the restore meets a disk that
fails. The filesystem is mounted anew, and the restore has to go on, or begin, and come to the volume as it was.
"""

from __future__ import annotations

import signal
import subprocess
from collections import Counter
from pathlib import Path

from tests.crash.counted import main
from tests.crash.restore_kill import Ground, into_file
from tests.crash.shutdown import FILESYSTEMS, Filesystem
from tests.support.devices import sh

SHUTDOWNS_PER_ROUND = 12
FAILED, NO_SPACE = 1, 7
"""ext4 that is shut down sometimes says that it has no room."""


class ShutdownGround(Ground):
    """The target's filesystem ends under the restore, and sometimes the restore with it."""

    ends = (-signal.SIGKILL, FAILED, NO_SPACE)

    def __init__(self, directory: Path, seed: int, filesystem: Filesystem) -> None:
        self._filesystem = filesystem
        self._is_down = False
        super().__init__(directory, seed, filesystem.mountpoint)

    def strike(self, process: subprocess.Popen[bytes]) -> None:
        self._filesystem.shut_down(flush_log=self.rng.random() < 0.5)
        self._is_down = True
        if self.rng.random() < 0.5:
            process.kill()

    def mend(self) -> None:
        if self._is_down:
            self._filesystem.mount_again()
            self._is_down = False

    def settle(self) -> None:
        sh("sync", "-f", self.target.parent)


def play(seed: int, count: int, directory: Path, kind: str | None = None) -> Counter[str]:
    """One repository, and a filesystem that is shut down again and again."""
    kind = kind or sorted(FILESYSTEMS)[seed % len(FILESYSTEMS)]
    kinds: Counter[str] = Counter()
    with Filesystem(directory, kind) as filesystem:
        ground = ShutdownGround(directory, seed, filesystem)
        while kinds.total() < min(count, SHUTDOWNS_PER_ROUND):
            new = kinds.total() % 2 == 0
            kinds[f"{kind} {'new' if new else 'in place'}"] += into_file(ground, new=new)
    return kinds


if __name__ == "__main__":
    main("restore_shutdown", play, count=60)

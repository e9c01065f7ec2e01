"""A filesystem that is shut down under the real server: a loss of power without a machine that loses it.

    python -m tests.crash.shutdown --count 100 --seed 1

The filesystem of the repository and its primaries lies on a loop device. Shut down, it stops where it is: nothing that it
still has in memory reaches the device, its own journal in memory included (``-f`` lets it write that out first), and every
call on it fails. The server then meets a store that fails, with applications that go on writing; it is killed, the
filesystem is mounted anew, and the server has to come back with all that was acknowledged. What was acknowledged while
everything failed counts too.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Self

from tests.crash.counted import main
from tests.crash.moments import a_moment_more
from tests.crash.round import GONE_S_MAX, Round
from tests.support.devices import loop_device, sh
from tests.support.processes import unmount
from tests.support.waiting import eventually

FILESYSTEMS = {"ext4": (128 << 20, ("mkfs.ext4", "-q", "-F")), "xfs": (300 << 20, ("mkfs.xfs", "-q", "-f"))}
"""Size of the device and how it is made. btrfs cannot be shut down."""
CRASHES_PER_ROUND = 8
KINDS = ("load", "bookmark", "seal", "ending")


class Filesystem:
    """A new filesystem of a kind, mounted at ``directory``/storage. A context manager."""

    def __init__(self, directory: Path, kind: str) -> None:
        self.mountpoint = directory / "storage"
        self._image = directory / "storage.img"
        self._kind = kind
        self._loop = loop_device(self._image)

    def __enter__(self) -> Self:
        size_bytes, make = FILESYSTEMS[self._kind]
        with self._image.open("wb") as image:
            image.truncate(size_bytes)
        self._device = self._loop.__enter__()
        try:
            sh(*make, self._device)
            self.mountpoint.mkdir()
            self._mount()
        except BaseException:
            self._loop.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        unmount(self.mountpoint)
        self._loop.__exit__(None, None, None)

    def _mount(self) -> None:
        sh("mount", "-t", self._kind, self._device, self.mountpoint)

    def shut_down(self, *, flush_log: bool) -> None:
        """Everything on it fails from now on. flush_log: it writes its own journal out first."""
        sh("xfs_io", "-x", "-c", "shutdown -f" if flush_log else "shutdown", self.mountpoint)

    def mount_again(self) -> None:
        """As after a loss of power. Nobody uses it any more, but a process with mounts of its own may still have it for a moment:
        what is mounted before that has ended is what was shut down."""
        sh("umount", self.mountpoint)
        known = Path("/sys/fs", self._kind, Path(self._device).name)
        eventually(lambda: not known.exists(), f"the end of {known}", deadline_s=GONE_S_MAX)
        self._mount()


class ShutdownRound(Round):
    """The server loses its filesystem, and then its life."""

    writers_end = ("EIO", "ENOSPC")
    """What a filesystem that is shut down says; ext4 sometimes that it has no room."""

    def __init__(self, directory: Path, seed: int, filesystem: Filesystem) -> None:
        self._filesystem = filesystem
        super().__init__(directory, seed, filesystem.mountpoint)

    def _strike(self) -> None:
        self._filesystem.shut_down(flush_log=self._rng.random() < 0.5)
        if self._rng.random() < 0.5:
            eventually(lambda: not any(w.is_running() for w in self.writers), "writes to fail", deadline_s=GONE_S_MAX)
        else:
            a_moment_more(self._rng)
        self._server.kill()

    def _mend(self) -> None:
        self._filesystem.mount_again()


def play(seed: int, count: int, directory: Path, kind: str | None = None) -> Counter[str]:
    """One repository on a filesystem that is shut down again and again, eight times at most."""
    kind = kind or sorted(FILESYSTEMS)[seed % len(FILESYSTEMS)]
    with Filesystem(directory, kind) as filesystem, ShutdownRound(directory, seed, filesystem) as played:
        while played.kills.total() < min(CRASHES_PER_ROUND, count):
            played.life(KINDS[played.lives % len(KINDS)])
        played.end()
        print(f"{kind}: {played}", flush=True)
    assert played.acknowledged > 0
    return Counter({f"{kind} {name}": number for name, number in played.kills.items()})


if __name__ == "__main__":
    main("shutdown", play, count=16)

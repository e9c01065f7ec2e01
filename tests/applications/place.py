"""Where an application lives: its directory on a filesystem on a loop device on a live volume of a served repository, which
is on a filesystem of its own, on a loop device too, so that it can be shut down as by a loss of power.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple, Self

from tests.support.devices import loop_device, sh
from tests.support.keeper import Workers
from tests.support.processes import (
    Mounted,
    children_of,
    is_alive,
    make_repository,
    must,
    must_json,
    stand_still,
    umount,
    unmount,
)
from tests.support.waiting import eventually

VOLUME = "disk"
VOLUME_BYTES = 384 << 20
STORE_BYTES = 32 << 30
"""As far as the filesystem below knows: a sparse file."""
GONE_S_MAX = 60.0
COPY_S_MAX = 300.0


class Kind(NamedTuple):
    """Of filesystem: how it is made, mounted, and checked without being changed."""

    make: tuple[str, ...]
    options: str
    check: tuple[str, ...]


KINDS = {
    "ext4": Kind(("mkfs.ext4", "-q", "-F"), "errors=remount-ro", ("e2fsck", "-fn")),
    "xfs": Kind(("mkfs.xfs", "-q", "-f"), "nouuid", ("xfs_repair", "-n")),
}


class Disk:
    """A file's filesystem on a directory, that may have to be taken away when nothing behind it answers any more."""

    def __init__(self, image: Path, directory: Path, kind: str) -> None:
        self.directory = directory
        self.kind = kind
        self._image = image
        self._loop = ExitStack()
        self._device = Path()

    def make(self) -> None:
        sh(*KINDS[self.kind].make, self._image)

    def attach(self) -> None:
        self._device = self._loop.enter_context(loop_device(self._image))
        self.directory.mkdir(exist_ok=True)
        sh("mount", "-t", self.kind, "-o", KINDS[self.kind].options, self._device, self.directory)

    def detach(self) -> None:
        """With all that it holds written out, and no error in its life."""
        if self.kind == "ext4":
            assert (Path("/sys/fs/ext4") / self._device.name / "errors_count").read_text() == "0\n"
        umount(self.directory)
        self.drop()

    def drop(self) -> None:
        """Whatever state it is in. May be called at any time."""
        unmount(self.directory)
        self._loop.close()


class Place:
    """``directory``: the application's, on the volume. A context manager; left, nothing of it is there any more.

    kind: of the filesystem on the volume. store_kind: of that below the repository.
    """

    def __init__(self, ground: Path, *, kind: str, store_kind: str, seed: int) -> None:
        self.directory = ground / "disk/application"
        self.repository = ground / "store/repository"
        self._ground = ground
        self._kind = kind
        self._store = Disk(ground / "store.img", ground / "store", store_kind)
        self._server = Mounted(self.repository, ground / "mount")
        self._disk = Disk(self._server.mountpoint / "live" / VOLUME, ground / "disk", kind)
        self._workers = Workers(self.repository, seed)
        self._quiet = 0

    def __enter__(self) -> Self:
        try:
            with (self._ground / "store.img").open("wb") as image:
                image.truncate(STORE_BYTES)
            self._store.make()
            self._store.attach()
            make_repository(self.repository, **{VOLUME: VOLUME_BYTES})
            self._server.start()
            self._disk.make()
            self._disk.attach()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill_server()
        self._disk.drop()
        unmount(self._server.mountpoint)
        self._store.drop()

    @property
    def log(self) -> str:
        """What all its servers said."""
        return self._server.log if self._server.log_path.exists() else ""

    def detach(self) -> None:
        """The volume's filesystem is unmounted. Nobody uses it any more; bookmarks can be opened."""
        self._disk.detach()
        self._compare()

    def _compare(self) -> None:
        """A bookmark made now, while nobody writes, is the same as the live volume, byte for byte."""
        name = f"quiet-{self._quiet}"
        self._quiet += 1
        self.bookmark(name)
        sh("cmp", self._shown(name), self._server.mountpoint / "live" / VOLUME, timeout_s=COPY_S_MAX)

    def _shown(self, bookmark: str) -> Path:
        return self._server.mountpoint / "snaps" / bookmark / VOLUME

    def stop(self) -> None:
        """The server ends, and its repository is checked."""
        status = self._server.stop()
        assert status == 0, f"serve ended with {status}:\n{self.log}"
        assert must_json(self.repository, "check", "--read-data")["damages"] == []

    def kill_worker(self) -> None:
        """And wait for the next one. The application must not notice."""
        self._workers.kill(0.1)

    def kill_server(self) -> None:
        """SIGKILL keeper and worker: the mount is dead, and so is the application soon. May be called at any time."""
        if not self._server.is_running():
            return
        stand_still(self._server.pid)  # that it starts no other worker
        workers = children_of(self._server.pid)
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        self._server.kill(leave_mount=True)
        eventually(lambda: not any(map(is_alive, workers)), "the workers gone", deadline_s=GONE_S_MAX)

    def shut_store_down(self, *, flush_log: bool) -> None:
        """All that the repository's filesystem has in memory is lost, and every call on it fails from now on.

        flush_log: it may write its own journal out first.
        """
        sh("xfs_io", "-x", "-c", "shutdown -f" if flush_log else "shutdown", self._store.directory)

    def start_again(self) -> None:
        """After the server was killed; the application is gone too. Its directory is there again."""
        self._disk.drop()
        unmount(self._server.mountpoint)
        self._store.drop()
        self._store.attach()
        self._server.start()
        self._compare()
        self._disk.attach()

    def bookmark(self, name: str) -> None:
        must(self.repository, "bookmark", "add", name)

    def bookmarks(self) -> list[str]:
        """The names of all."""
        return [bookmark["name"] for bookmark in must_json(self.repository, "bookmark", "list")["bookmarks"]]

    @contextmanager
    def opened(self, bookmark: str) -> Iterator[Path]:
        """The application's directory on a copy of what a bookmark shows; its filesystem is checked when the block is left."""
        copy = self._ground / "copy.img"
        disk = Disk(copy, self._ground / "copy", self._kind)
        try:
            sh(
                "cp",
                "--sparse=always",
                self._server.mountpoint / "snaps" / bookmark / VOLUME,
                copy,
                timeout_s=COPY_S_MAX,
            )
            copy.chmod(0o600)
            disk.attach()
            yield disk.directory / self.directory.name
            disk.detach()
            sh(*KINDS[self._kind].check, copy, timeout_s=COPY_S_MAX)
        finally:
            disk.drop()
            copy.unlink(missing_ok=True)

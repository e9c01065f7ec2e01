"""What backup programs find: three volumes, served, and the examples of docs/ as they are installed."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Self

from tests.support.files import opened, pwrite_all
from tests.support.processes import Mounted, environment, unmount
from vsnapfs.core.model import Bookmark
from vsnapfs.daemon.client import connect
from vsnapfs.daemon.requests import BookmarkAdd, BookmarkList, GetStatus
from vsnapfs.repository.repository import Repository

EXAMPLES = Path(__file__).parents[2] / "docs/examples"
VOLUMES = ("db0", "db1", "logs")
SIZE_BYTES = 8 << 20
PIECE_BYTES = 64 << 10
EVERY_BYTES = 512 << 10
"""One piece of data in so much."""
RUN_S_MAX = 120
WITH_US = ("setpriv", "--pdeathsig", "TERM")
"""Before the command of a server: it ends when we are killed."""
NOTHING: Mapping[str, str] = MappingProxyType({})


class Protected:
    """``ground``: a directory that others may look into. ``repository``, and ``mountpoint``, where a server shows it. ``socket``: for who
    is not root, if ``settings`` name it, as ``{socket}``. ``env``: for programs and for the examples, which are in its PATH."""

    def __init__(self, ground: Path, *, settings: str = "", seed: int = 1) -> None:
        self.ground = ground
        self.repository = ground / "repository"
        self.server = Mounted(self.repository, ground / "points", within=WITH_US)
        self.mountpoint = self.server.mountpoint
        self.socket = ground / "server.sock"
        self._settings = settings.format(socket=self.socket)
        self._rng = random.Random(seed)
        programs = ground / "bin"
        self.env = environment(self.repository) | {
            "VSNAPFS_MOUNT": str(self.mountpoint),
            "PATH": f"{programs}:{EXAMPLES}:{os.environ['PATH']}",
            "LC_ALL": "C.UTF-8",
            "HOME": str(ground),
        }

    def __enter__(self) -> Self:
        _install(self.ground / "bin", self.env["PYTHONPATH"])
        Repository.create(self.repository)
        (self.repository / "vsnapfs.toml").write_text(self._settings)
        with Repository.open(self.repository, owner=True) as repository:
            for volume in VOLUMES:
                repository.volume_add(volume, size_bytes=SIZE_BYTES)
        self.server.start()
        self._client = connect(self.repository)
        try:
            for volume in VOLUMES:
                for at in range(0, SIZE_BYTES, EVERY_BYTES):
                    self.write(volume, at, self._rng.randbytes(PIECE_BYTES))
        except BaseException:
            self.server.kill()
            raise
        return self

    def __exit__(self, *failure: object) -> None:
        try:
            status = (
                self.server.stop()
            )  # also after a failure: its worker would go on for a moment, and remove its socket
            assert failure[0] is not None or status == 0, self.server.log
        finally:
            self.server.kill()

    def write(self, volume: str, offset_bytes: int, content: bytes) -> None:
        """Durable when it returns."""
        with opened(self.mountpoint / "live" / volume, os.O_WRONLY) as fd:
            pwrite_all(fd, content, offset_bytes)
            os.fsync(fd)

    def change(self, volume: str) -> None:
        self.write(volume, self._rng.randrange(SIZE_BYTES // EVERY_BYTES) * EVERY_BYTES, self._rng.randbytes(5000))

    def bookmark(self, name: str) -> str:
        return self._client.call(BookmarkAdd(name=name)).name

    def bookmarks(self) -> dict[str, Bookmark]:
        return {bookmark.name: bookmark for bookmark in self._client.call(BookmarkList()).bookmarks}

    def point(self, name: str) -> Path:
        return self.mountpoint / "snaps" / name

    def run(
        self, *command: str | Path, cwd: Path | None = None, env: Mapping[str, str] = NOTHING
    ) -> subprocess.CompletedProcess[str]:
        """Whatever its exit status."""
        return subprocess.run(
            [str(word) for word in command], env=self.env | dict(env), cwd=cwd or self.ground,
            capture_output=True, text=True, timeout=RUN_S_MAX, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def must(
        self, *command: str | Path, cwd: Path | None = None, status: int = 0, env: Mapping[str, str] = NOTHING
    ) -> str:
        """Returns what it said, its errors too."""
        done = self.run(*command, cwd=cwd, env=env)
        said = done.stdout + done.stderr
        assert done.returncode == status, f"{command}: exit {done.returncode}\n{said}"
        return said

    def at_point(self, point: str, *command: str | Path, status: int = 0, env: Mapping[str, str] = NOTHING) -> str:
        """A program where the volumes of a point are found at the same path each time."""
        return self.must("backup-point", "run", point, self.stand, *command, status=status, env=env)

    @property
    def stand(self) -> Path:
        return self.ground / "stand"

    @contextmanager
    def reading(self, point: str) -> Iterator[list[int]]:
        """In the end the list has how many bytes of volumes were read from the mount meanwhile. What the kernel has in its cache
        of that point is forgotten before."""
        for volume in VOLUMES:
            with opened(self.point(point) / volume) as fd:
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        before = self._read_bytes()
        read: list[int] = []
        yield read
        read.append(self._read_bytes() - before)

    def _read_bytes(self) -> int:
        counts = self._client.call(GetStatus()).requests
        return counts["read"].bytes if "read" in counts else 0

    def dig_holes(self, directory: Path) -> None:
        """As the document says: some programs restore zeros, or some of them."""
        for volume in VOLUMES:
            self.must("fallocate", "--dig-holes", directory / volume)

    def assert_restored(self, directory: Path, point: str, *, manifest: bool = True) -> None:
        """Everything of a point is there again, and nothing else; it is as sparse as it was. Not manifest: it names another
        bookmark at the same point."""
        names = sorted(path.name for path in self.point(point).iterdir())
        assert sorted(path.name for path in directory.iterdir()) == names
        for name in names if manifest else VOLUMES:
            shown, restored = self.point(point) / name, directory / name
            assert _sum(restored) == _sum(shown), name
            if name in VOLUMES:
                assert restored.stat().st_blocks < shown.stat().st_blocks * ROOM_MAX, name


ROOM_MAX = 1.25
"""For what a filesystem needs beside the data, and for holes that nobody finds while it is in memory alone; without holes it is 8."""


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _install(directory: Path, python_path: str) -> None:
    """The command ``vsnapfs``, as it stands in PATH."""
    directory.mkdir()
    command = directory / "vsnapfs"
    command.write_text(f'#!/bin/sh\nPYTHONPATH="{python_path}" exec "{sys.executable}" -m vsnapfs.cli "$@"\n')
    command.chmod(0o755)


@contextmanager
def protected(*, settings: str = "") -> Iterator[Protected]:
    ground = Path(tempfile.mkdtemp(prefix="vsnapfs-backup-", dir="/var/tmp"))
    ground.chmod(0o755)
    place = Protected(ground, settings=settings)
    try:
        with place:
            yield place
    finally:
        unmount(place.mountpoint)
        shutil.rmtree(ground)

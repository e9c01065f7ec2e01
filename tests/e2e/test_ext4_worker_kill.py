"""ext4 on a loop device on a live volume, whose worker is killed again and again: the filesystem notices nothing."""

from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path

import pytest

from tests.support.devices import loop_device, mounted, sh
from tests.support.keeper import Killing, Workers, kills
from tests.support.processes import Mounted, make_repository, must, must_json

KILLS = kills(8)

pytestmark = [
    pytest.mark.e2e, pytest.mark.requires_root, pytest.mark.requires_fuse, pytest.mark.timeout(300 + 15 * KILLS)
]  # fmt: skip

FILES_MAX = 150


class Churn:
    """Files that are made, written into, appended to, cut, renamed and removed; what each has to hold is remembered."""

    def __init__(self, directory: Path, rng: random.Random) -> None:
        self.steps = 0
        self._directory = directory
        self._rng = rng
        self._contents: dict[str, bytearray] = {}
        directory.mkdir()

    def step(self) -> None:
        self.steps += 1
        actions = [self._make, self._overwrite, self._append, self._cut, self._rename, self._remove]
        if not self._contents:
            self._make()
        else:
            self._rng.choices(actions, weights=(6, 6, 4, 1, 2, 1 if len(self._contents) < FILES_MAX else 12))[0]()

    def _some(self) -> str:
        return self._rng.choice(sorted(self._contents))

    def _write(self, name: str, flags: int, offset_bytes: int, content: bytes) -> None:
        fd = os.open(self._directory / name, os.O_WRONLY | os.O_CREAT | flags, 0o600)
        try:
            assert os.pwrite(fd, content, offset_bytes) == len(content)
            if self._rng.random() < 0.2:
                os.fsync(fd)
        finally:
            os.close(fd)

    def _make(self) -> None:
        name, content = f"file-{self.steps}", self._rng.randbytes(int(10 ** self._rng.uniform(0, 5.5)))
        self._write(name, os.O_EXCL, 0, content)
        self._contents[name] = bytearray(content)

    def _overwrite(self) -> None:
        name = self._some()
        held = self._contents[name]
        at, content = self._rng.randrange(len(held) + 1), self._rng.randbytes(5000)
        self._write(name, 0, at, content)
        held[at : at + len(content)] = content

    def _append(self) -> None:
        name, content = self._some(), self._rng.randbytes(3000)
        self._write(name, 0, len(self._contents[name]), content)
        self._contents[name] += content

    def _cut(self) -> None:
        name = self._some()
        length = self._rng.randrange(len(self._contents[name]) + 1)
        os.truncate(self._directory / name, length)
        del self._contents[name][length:]

    def _rename(self) -> None:
        name, new = self._some(), f"renamed-{self.steps}"
        (self._directory / name).rename(self._directory / new)
        self._contents[new] = self._contents.pop(name)

    def _remove(self) -> None:
        name = self._some()
        (self._directory / name).unlink()
        del self._contents[name]

    def assert_holds(self) -> None:
        """Every file, and no other, holds what was put into it."""
        found = {path.name: digest(path.read_bytes()) for path in self._directory.iterdir()}
        assert found == {name: digest(content) for name, content in self._contents.items()}


def digest(content: bytes | bytearray) -> str:
    return hashlib.sha256(content).hexdigest()


def source_tree(directory: Path, rng: random.Random) -> Path:
    """Some hundred files to copy."""
    for number in range(300):
        path = directory / f"d{number % 12}" / f"file-{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.randbytes(int(10 ** rng.uniform(0, 5))))
    return directory


def test_ext4_on_a_live_volume_notices_nothing(tmp_path: Path) -> None:
    rng = random.Random(5)
    source = source_tree(tmp_path / "source", rng)
    repository = make_repository(tmp_path / "repository", disk="400M")
    workers = Workers(repository, seed=5)
    with (
        Mounted(repository, tmp_path / "mount") as server,
        loop_device(server.mountpoint / "live/disk") as device,
    ):
        sh("mkfs.ext4", "-q", device)
        with mounted(device, tmp_path / "disk", options="errors=remount-ro,discard") as disk:
            churn, copies, going = Churn(disk / "churn", rng), 0, True
            with Killing(workers, KILLS) as killing:
                while going:
                    going = killing.going
                    sh("cp", "-a", source, disk / f"copy-{copies % 3}", timeout_s=120)
                    for _ in range(200):
                        churn.step()
                    sh("sync", "-f", disk, timeout_s=120)
                    assert sh("diff", "-r", source, disk / f"copy-{copies % 3}") == ""
                    if copies > 1:
                        sh("rm", "-r", disk / f"copy-{(copies + 1) % 3}")
                    copies += 1
            must(repository, "bookmark", "add", "synced", "--consistency", "filesystem")
            assert (Path("/sys/fs/ext4") / device.name / "errors_count").read_text() == "0\n"
            assert "rw" in mount_options(disk)
        sh("e2fsck", "-fn", device)
        sh("blockdev", "--flushbufs", device)
        with mounted(device, tmp_path / "disk", options="ro"):
            churn.assert_holds()
            assert sh("diff", "-r", source, disk / f"copy-{(copies - 1) % 3}") == ""
        with (
            loop_device(server.mountpoint / "snaps/synced/disk", read_only=True) as shown,
            mounted(shown, tmp_path / "disk", options="ro,noload"),
        ):
            churn.assert_holds()
    assert must_json(repository, "check", "--read-data")["damages"] == []
    print(f"{workers}; {churn.steps} changes, {copies} copies")


def mount_options(path: Path) -> list[str]:
    """Of what is mounted at a path."""
    lines = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    (options,) = [words[5].split(",") for words in lines if words[4] == str(path)]
    return options

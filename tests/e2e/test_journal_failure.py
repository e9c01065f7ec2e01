"""A journal whose disk is full or fails: the application goes on, everybody is told, and afterwards nothing is missing.

The repository lies on a small filesystem of its own, the primary on another one.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator
from io import RawIOBase
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.ground import MIB
from tests.support.control import ask
from tests.support.devices import loop_device, mounted, sh
from tests.support.files import opened
from tests.support.keeper import Workers
from tests.support.processes import Mounted, must, must_json, run, umount
from tests.support.waiting import eventually

SIZE = 32 * MIB
DISK = 96 * MIB
PIECE = 64 << 10
HELD_UP_S_MAX = 5.0
"""By a journal that fails: 250 ms are promised, and a busy machine is no defect."""

pytestmark = [pytest.mark.e2e, pytest.mark.requires_root, pytest.mark.requires_fuse]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem for the repository."""
    image = tmp_path / "disk.img"
    image.write_bytes(b"")
    os.truncate(image, DISK)
    sh("mkfs.ext4", "-q", image)
    with loop_device(image) as device, mounted(device, tmp_path / "disk", kind="ext4") as directory:
        yield directory


@pytest.fixture
def primary(tmp_path: Path) -> Path:
    path = tmp_path / "db.img"
    path.write_bytes(b"")
    os.truncate(path, SIZE)
    return path


def make(disk: Path, primary: Path, settings: str = "") -> Path:
    """A repository on the disk, with the volume ``db``."""
    repository = disk / "repository"
    must(repository, "init")
    (repository / "vsnapfs.toml").write_text(f'[journal]\nsegment_size = "1M"\n{settings}')
    must(repository, "volume", "add", "db", "--primary", primary)
    return repository


class Writer:
    """Somebody who uses a volume, and knows what it holds."""

    def __init__(self, path: Path, seed: int) -> None:
        self.content = bytearray(SIZE)
        self.slowest_s = 0.0
        self._path = path
        self._rng = random.Random(seed)

    def write(self, count: int) -> None:
        """So many writes, an fsync after some. None of them may fail."""
        with opened(self._path, os.O_RDWR) as fd:
            for number in range(count):
                at = self._rng.randrange(SIZE // PIECE) * PIECE
                content = bytes(PIECE) if number % 7 == 0 else self._rng.randbytes(PIECE)
                began = time.monotonic()
                assert os.pwrite(fd, content, at) == PIECE
                if number % 5 == 4:
                    os.fsync(fd)
                self.slowest_s = max(self.slowest_s, time.monotonic() - began)
                self.content[at : at + PIECE] = content
            os.fsync(fd)


def write_for_ever(file: RawIOBase, piece: bytes) -> None:
    while True:
        file.write(piece)


def fill(disk: Path) -> None:
    """To the last byte."""
    with (disk / "filler").open("wb", buffering=0) as file:
        for piece in (bytes(MIB), bytes(512)):
            with pytest.raises(OSError, match="No space"):
                write_for_ever(file, piece)


def status_of(repository: Path) -> Any:
    return ask(repository, "status")[1]["result"]


def gap_of(repository: Path) -> Any:
    """The gap that is open, with its first seqno; None: none is."""
    gaps = status_of(repository)["gaps"]
    return gaps[-1] if gaps and gaps[-1]["until"] is None else None


def assert_whole_again(repository: Path, server: Mounted, writer: Writer, primary: Path) -> Any:
    """The gap is closed, points before and after it are exact, points in it are refused. Returns the gap."""
    eventually(lambda: gap_of(repository) is None and status_of(repository)["gaps"], "the gap closed", deadline_s=30)
    must(repository, "bookmark", "add", "after")
    snaps = server.mountpoint / "snaps"
    assert (snaps / "after/db").read_bytes() == writer.content == primary.read_bytes()
    gap = status_of(repository)["gaps"][0]
    inside = f"@{gap['since_seqno'] + 1}"
    refused = run(repository, "diff", "before", inside)
    assert (refused.returncode, refused.stdout) == (8, "")
    assert "gap" in refused.stderr
    assert not (server.mountpoint / "at" / inside).exists()
    assert not (server.mountpoint / "at" / gap["since"]).exists()
    assert (server.mountpoint / "at" / f"@{gap['since_seqno']}/db").exists()
    return gap


def test_a_full_disk_stops_nobody(disk: Path, primary: Path, tmp_path: Path) -> None:
    repository = make(disk, primary)
    with Mounted(repository, tmp_path / "mount") as server:
        writer = Writer(server.mountpoint / "live/db", seed=1)
        writer.write(40)
        must(repository, "bookmark", "add", "before")
        before = bytes(writer.content)
        fill(disk)
        writer.write(100)
        assert writer.slowest_s < HELD_UP_S_MAX
        assert eventually(lambda: gap_of(repository), "the gap in status", deadline_s=15)["changed_bytes"] > 0
        assert run(repository, "status").returncode == 8
        for name in ("during", "again"):
            refused = run(repository, "bookmark", "add", name)
            assert (refused.returncode, len(refused.stderr.splitlines())) == (8, 1)
        assert [b["name"] for b in must_json(repository, "bookmark", "list")["bookmarks"]] == ["before"]
        must(repository, "check", "--read-data")
        assert (server.mountpoint / "snaps/before/db").read_bytes() == before
        assert run(repository, "volume", "resync").returncode == 7
        with Mounted(repository, tmp_path / "reader", verb="mount", options=("--foreground",)) as reader:
            assert not (reader.mountpoint / "at/-0s").exists()
            assert (reader.mountpoint / "snaps/before/db").read_bytes() == before
        (disk / "filler").unlink()
        writer.write(20)
        gap = assert_whole_again(repository, server, writer, primary)
        assert "No space" in gap["reason"]
        assert (server.mountpoint / "snaps/before/db").read_bytes() == before
    must(repository, "check", "--read-data")
    assert json.loads(run(repository, "status", "--json").stdout)["gaps"] == [gap]  # without a server too


def test_strict_means_that_writes_fail(disk: Path, primary: Path, tmp_path: Path) -> None:
    repository = make(disk, primary, 'on_journal_failure = "strict"\n')
    with Mounted(repository, tmp_path / "mount") as server:
        writer = Writer(server.mountpoint / "live/db", seed=2)
        writer.write(10)
        fill(disk)
        with pytest.raises(OSError, match="No space"):
            writer.write(10)
        assert run(repository, "status").returncode == 8
        assert gap_of(repository) is None
        (disk / "filler").unlink()
        server.kill()
    with Mounted(repository, tmp_path / "mount") as server:
        assert run(repository, "status").returncode == 0
        must(repository, "bookmark", "add", "after")


def test_a_worker_that_dies_in_a_gap_is_followed_by_one_that_closes_it(
    disk: Path, primary: Path, tmp_path: Path
) -> None:
    repository = make(disk, primary)
    with Mounted(repository, tmp_path / "mount") as server:
        writer = Writer(server.mountpoint / "live/db", seed=3)
        writer.write(20)
        must(repository, "bookmark", "add", "before")
        fill(disk)
        writer.write(40)
        Workers(repository, seed=3).kill(after_s_max=0)
        writer.write(40)
        assert eventually(lambda: gap_of(repository), "the gap in status")
        (disk / "filler").unlink()
        assert_whole_again(repository, server, writer, primary)


def test_a_server_that_dies_in_a_gap_is_followed_by_one_that_closes_it(
    disk: Path, primary: Path, tmp_path: Path
) -> None:
    repository = make(disk, primary)
    with Mounted(repository, tmp_path / "mount", options=("--keeper", "none")) as server:
        writer = Writer(server.mountpoint / "live/db", seed=4)
        writer.write(20)
        must(repository, "bookmark", "add", "before")
        fill(disk)
        writer.write(40)
        server.kill()
        assert primary.read_bytes() == writer.content
        (disk / "filler").unlink()
        server.start()
        assert_whole_again(repository, server, writer, primary)


def test_a_disk_that_fails_stops_nobody(disk: Path, primary: Path, tmp_path: Path) -> None:
    """Its filesystem is shut down, as by a power failure of the disk alone; after a repair the server is started again."""
    repository = make(disk, primary)
    device = sh("findmnt", "-no", "SOURCE", disk).strip()
    with Mounted(repository, tmp_path / "mount", options=("--keeper", "none")) as server:
        writer = Writer(server.mountpoint / "live/db", seed=5)
        writer.write(20)
        must(repository, "bookmark", "add", "before")
        sh("xfs_io", "-x", "-c", "shutdown", disk)
        writer.write(60)
        assert writer.slowest_s < HELD_UP_S_MAX
        assert primary.read_bytes() == writer.content
        server.kill()
        umount(disk)
        sh("mount", "-t", "ext4", device, disk)
        server.start()
        assert primary.read_bytes() == writer.content
        assert_whole_again(repository, server, writer, primary)

"""Existing images and block devices as primaries, from the first bookmark to resync and resize."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.ground import MIB, program, refused, serving
from tests.support.devices import loop_device, mounted, sh
from tests.support.files import opened, punch
from tests.support.processes import must, must_json, run
from vsnapfs.repository.repository import Repository

USAGE, NOT_FOUND, BUSY, DEGRADED = 2, 3, 5, 8
SIZE = 4 * MIB
BLOCK = 4096

pytestmark = [pytest.mark.e2e, pytest.mark.requires_root, pytest.mark.requires_fuse]


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A repository without volumes."""
    path = tmp_path / "empty"
    Repository.create(path)
    return path


@pytest.fixture
def before() -> bytes:
    """What the primary holds before it is protected: data, a hole of 2 MiB, data."""
    rng = random.Random(1)
    return rng.randbytes(MIB) + bytes(2 * MIB) + rng.randbytes(MIB)


@pytest.fixture
def image(tmp_path: Path, before: bytes) -> Path:
    """It in a sparse file."""
    path = tmp_path / "image"
    with path.open("wb") as file:
        file.write(before[:MIB])
        file.seek(3 * MIB)
        file.write(before[3 * MIB :])
    return path


@pytest.fixture(params=["file", "loop"])
def primary(image: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """As a regular file, and as a block device."""
    if request.param == "file":
        yield image
    else:
        with loop_device(image) as device:
            yield device


def patch(content: bytes, offset_bytes: int, piece: bytes) -> bytes:
    return content[:offset_bytes] + piece + content[offset_bytes + len(piece) :]


def put(path: Path, offset_bytes: int, piece: bytes) -> None:
    """Write and sync."""
    with opened(path, os.O_RDWR) as fd:
        assert os.pwrite(fd, piece, offset_bytes) == len(piece)
        os.fsync(fd)


def test_a_primary_is_protected_from_its_first_byte_on(
    empty: Path, primary: Path, before: bytes, tmp_path: Path
) -> None:
    volume = must_json(empty, "volume", "add", "db", "--primary", primary)
    assert (volume["size_bytes"], volume["primary"], volume["primary_path"]) == (SIZE, "path", str(primary))
    assert volume["base"]
    must(empty, "bookmark", "add", "first")
    after = patch(patch(before, 100, b"new" * 1000), 2 * MIB, b"more" * 4096)
    with serving(empty, tmp_path / "mount") as server:
        live, snaps = server.mountpoint / "live/db", server.mountpoint / "snaps"
        assert live.read_bytes() == before
        put(live, 100, b"new" * 1000)
        put(live, 2 * MIB, b"more" * 4096)
        assert primary.read_bytes() == after, "an fsync returns when the primary has it"
        must(empty, "bookmark", "add", "second")
        assert (snaps / "first/db").read_bytes() == before
        assert (snaps / "second/db").read_bytes() == after
    assert primary.read_bytes() == after
    must(empty, "check", "--read-data")


def test_a_base_of_a_file_is_as_sparse_as_the_file(empty: Path, image: Path, tmp_path: Path) -> None:
    must(empty, "volume", "add", "db", "--primary", image)
    with serving(empty, tmp_path / "mount") as server:
        must(empty, "bookmark", "add", "first")
        assert (server.mountpoint / "snaps/first/db").stat().st_blocks * 512 == 2 * MIB
    (base,) = (empty / "base").glob("*.img")
    assert base.stat().st_blocks * 512 <= 2 * MIB + 64 * 1024


def test_resync_takes_in_what_went_past_the_splitter(empty: Path, primary: Path, before: bytes, tmp_path: Path) -> None:
    must(empty, "volume", "add", "db", "--primary", primary)
    must(empty, "bookmark", "add", "first")
    behind = patch(patch(before, 5 * BLOCK + 7, b"behind our back"), MIB + BLOCK, b"\x01" * BLOCK)
    behind = patch(behind, 3 * MIB, bytes(BLOCK))
    for offset_bytes in (5 * BLOCK, MIB + BLOCK, 3 * MIB):
        put(primary, offset_bytes, behind[offset_bytes : offset_bytes + BLOCK])
    assert must_json(empty, "volume", "resync", "db") == {"volume": "db", "changed_bytes": 3 * BLOCK}
    must(empty, "bookmark", "add", "resynced")
    assert must_json(empty, "volume", "resync", "db")["changed_bytes"] == 0
    assert primary.read_bytes() == behind
    with serving(empty, tmp_path / "mount") as server:
        assert (server.mountpoint / "snaps/first/db").read_bytes() == before
        assert (server.mountpoint / "snaps/resynced/db").read_bytes() == behind
        assert (server.mountpoint / "live/db").read_bytes() == behind


def test_resync_of_a_served_volume_shows_in_live(empty: Path, image: Path, before: bytes, tmp_path: Path) -> None:
    must(empty, "volume", "add", "db", "--primary", image)
    with serving(empty, tmp_path / "mount") as server:
        live = server.mountpoint / "live/db"
        assert live.read_bytes() == before
        put(image, BLOCK, b"behind" * 100)
        assert must_json(empty, "volume", "resync", "db")["changed_bytes"] == BLOCK
        assert live.read_bytes() == patch(before, BLOCK, b"behind" * 100)


def test_a_file_grows_and_shrinks_with_its_volume(empty: Path, image: Path, before: bytes, tmp_path: Path) -> None:
    must(empty, "volume", "add", "db", "--primary", image)
    with serving(empty, tmp_path / "mount") as server:
        must(empty, "bookmark", "add", "four")
        assert must_json(empty, "volume", "resize", "db", "6M")["size_bytes"] == 6 * MIB
        assert image.stat().st_size == 6 * MIB
        put(server.mountpoint / "live/db", 5 * MIB, b"behind the old end")
        must(empty, "bookmark", "add", "six")
        must(empty, "volume", "resize", "db", "1M")
        assert image.read_bytes() == before[:MIB]
        assert (server.mountpoint / "live/db").stat().st_size == MIB
        must(empty, "volume", "resize", "db", "4M")
        must(empty, "bookmark", "add", "again")
        shown = {name: (server.mountpoint / "snaps" / name / "db").read_bytes() for name in ("four", "six", "again")}
        assert (server.mountpoint / "live/db").read_bytes() == shown["again"]
    assert shown == {
        "four": before,
        "six": patch(before + bytes(2 * MIB), 5 * MIB, b"behind the old end"),
        "again": before[:MIB] + bytes(3 * MIB),
    }
    assert image.read_bytes() == shown["again"]


def test_a_device_must_be_enlarged_before_its_volume(empty: Path, image: Path, before: bytes, tmp_path: Path) -> None:
    with loop_device(image) as device:
        must(empty, "volume", "add", "db", "--primary", device)
        with serving(empty, tmp_path / "mount") as server:
            assert "enlarge the device" in refused(empty, USAGE, "volume", "resize", "db", "6M")
            os.truncate(image, 6 * MIB)
            sh("losetup", "--set-capacity", device)
            must(empty, "volume", "resize", "db", "6M")
            put(server.mountpoint / "live/db", 6 * MIB - BLOCK, b"\x07" * BLOCK)
        assert device.read_bytes() == before + bytes(2 * MIB - BLOCK) + b"\x07" * BLOCK


def test_a_discard_reaches_the_primary(empty: Path, primary: Path, before: bytes, tmp_path: Path) -> None:
    must(empty, "volume", "add", "db", "--primary", primary)
    with serving(empty, tmp_path / "mount") as server:
        with opened(server.mountpoint / "live/db", os.O_RDWR) as fd:
            punch(fd, 0, MIB)
            os.fsync(fd)
        assert primary.read_bytes() == bytes(3 * MIB) + before[3 * MIB :]


def test_what_is_in_use_cannot_be_protected(empty: Path, repository: Path, image: Path, tmp_path: Path) -> None:
    with loop_device(image) as device:
        assert str(device) in refused(empty, BUSY, "volume", "add", "db", "--primary", image)
        sh("mkfs.ext4", "-q", device)
        with mounted(device, tmp_path / "in-use"):
            assert str(tmp_path / "in-use") in refused(empty, BUSY, "volume", "add", "db", "--primary", device)
        with serving(repository, tmp_path / "mount"):
            must(repository, "volume", "add", "taken", "--primary", device)
            refused(empty, BUSY, "volume", "add", "db", "--primary", device)
    assert must_json(empty, "volume", "list") == {"volumes": []}
    assert list((empty / "base").iterdir()) == []


def test_a_device_in_use_by_the_server_cannot_be_mounted(empty: Path, image: Path, tmp_path: Path) -> None:
    with loop_device(image) as device:
        sh("mkfs.ext4", "-q", device)
        must(empty, "volume", "add", "db", "--primary", device)
        with serving(empty, tmp_path / "mount"):
            (tmp_path / "past").mkdir()
            done = program("mount", device, tmp_path / "past")
            assert done.returncode != 0
            assert "busy" in done.stderr or "already mounted" in done.stderr


@pytest.mark.parametrize(
    ("make", "status"),
    [
        (lambda path: None, NOT_FOUND),
        (lambda path: path.mkdir(), USAGE),
        (lambda path: path.write_bytes(b""), USAGE),
        (lambda path: path.write_bytes(bytes(513)), USAGE),
        (os.mkfifo, USAGE),
    ],
    ids=["missing", "directory", "empty", "odd size", "pipe"],
)
def test_what_cannot_be_a_primary(empty: Path, tmp_path: Path, make: object, status: int) -> None:
    assert callable(make)
    make(tmp_path / "it")
    assert str(tmp_path / "it") in refused(empty, status, "volume", "add", "db", "--primary", tmp_path / "it")
    assert must_json(empty, "volume", "list") == {"volumes": []}


def test_a_file_inside_the_repository_is_nobodys_primary(repository: Path) -> None:
    (primary,) = (repository / "primary").glob("*.img")
    refused(repository, USAGE, "volume", "add", "x", "--primary", primary)


def test_without_its_primary_a_volume_is_degraded_and_its_past_is_there(
    empty: Path, image: Path, before: bytes, tmp_path: Path
) -> None:
    must(empty, "volume", "add", "db", "--primary", image)
    must(empty, "bookmark", "add", "first")
    image.rename(tmp_path / "aside")
    with serving(empty, tmp_path / "mount") as server:
        told = run(empty, "status")
        assert told.returncode == DEGRADED
        assert str(image) in told.stdout
        assert (server.mountpoint / "snaps/first/db").read_bytes() == before
        with pytest.raises(OSError, match="Errno"):
            os.open(server.mountpoint / "live/db", os.O_RDWR)
        refused(empty, DEGRADED, "volume", "resync", "db")
    (tmp_path / "aside").rename(image)
    with serving(empty, tmp_path / "mount") as server:
        assert must_json(empty, "status")["protected"]
        assert (server.mountpoint / "live/db").read_bytes() == before


def test_removing_a_volume_leaves_its_primary_and_its_past(
    empty: Path, primary: Path, before: bytes, tmp_path: Path
) -> None:
    must(empty, "volume", "add", "db", "--primary", primary)
    must(empty, "bookmark", "add", "first")
    must(empty, "volume", "remove", "db")
    must(empty, "bookmark", "add", "second")
    with serving(empty, tmp_path / "mount") as server:
        assert (server.mountpoint / "snaps/first/db").read_bytes() == before
        assert sorted(os.listdir(server.mountpoint / "snaps/second")) == ["MANIFEST.json"]
        assert os.listdir(server.mountpoint / "live") == []
    assert primary.read_bytes() == before

"""Exports: whole, of changes, and such that cannot end: a closed pipe, a full disk."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.ground import MIB, refused
from tests.support.devices import loop_device, mounted, sh
from tests.support.processes import environment, must, must_json, program
from vsnapfs.repository.repository import Repository

FAILED, USAGE, DENIED, BUSY, NO_SPACE = 1, 2, 4, 5, 7
BLOCK = 4096
CHANGED = 100

pytestmark = [pytest.mark.e2e, pytest.mark.requires_root, pytest.mark.requires_fuse]


@pytest.fixture
def first(tmp_path: Path) -> bytes:
    """The volume's content at bookmark a: 2 MiB of data, then a hole."""
    return os.urandom(2 * MIB) + bytes(2 * MIB)


@pytest.fixture
def second(first: bytes) -> bytes:
    """At bookmark b: one block is new, one has become zeros."""
    changed = bytearray(first)
    changed[CHANGED * BLOCK : (CHANGED + 1) * BLOCK] = os.urandom(BLOCK)
    changed[(CHANGED + 9) * BLOCK : (CHANGED + 10) * BLOCK] = bytes(BLOCK)
    return bytes(changed)


@pytest.fixture
def filled(repository: Path, tmp_path: Path, first: bytes, second: bytes) -> Path:
    """The repository with both."""
    image = tmp_path / "image"
    with Repository.open(repository, owner=True) as opened:
        for name, content in (("a", first), ("b", second)):
            image.write_bytes(content)
            opened.import_images({"db": image}, name)
    image.unlink()
    return repository


def test_an_image_is_complete_and_sparse(filled: Path, tmp_path: Path, first: bytes) -> None:
    target = tmp_path / "a.img"
    told = must_json(filled, "export", "a", "db", "--to", target)
    assert (told["volume"], told["size_bytes"], told["to"]) == ("db", 4 * MIB, str(target))
    assert target.read_bytes() == first
    assert (
        2 * MIB <= target.stat().st_blocks * 512 <= 2 * MIB + 64 * 1024
    )  # in many pieces its filesystem needs a block for them
    assert not target.with_name("a.img.partial").exists()


def test_changes_applied_to_the_older_image_give_the_newer(
    filled: Path, tmp_path: Path, first: bytes, second: bytes
) -> None:
    must(filled, "export", "b", "db", "--since", "a", "--to", tmp_path / "changes.tar")
    image = bytearray(first)
    with tarfile.open(tmp_path / "changes.tar") as tar:
        described, held = (tar.extractfile(name) for name in ("db.json", "db.extents"))
        assert described is not None
        assert held is not None
        for extent in json.load(described)["extents"]:
            start, length = extent["offset_bytes"], extent["length_bytes"]
            image[start : start + length] = bytes(length) if extent["zero"] else held.read(length)
        assert held.read() == b""
    assert image == second


def test_standard_output_gets_the_same_bytes(filled: Path, second: bytes) -> None:
    done = subprocess.run(
        [*program(), "export", "b", "db", "--to", "-"], env=environment(filled), capture_output=True, check=True
    )
    assert done.stdout == second


@pytest.mark.parametrize("since", [(), ("--since", "@1")], ids=["image", "changes"])
def test_a_reader_that_has_seen_enough_ends_it_quietly(filled: Path, since: tuple[str, ...]) -> None:
    with subprocess.Popen(
        [*program(), "export", "b", "db", *since, "--to", "-"],
        env=environment(filled), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as exporting:  # fmt: skip
        assert exporting.stdout is not None
        assert exporting.stderr is not None
        assert len(exporting.stdout.read(10)) == 10
        exporting.stdout.close()
        said = exporting.stderr.read().decode()
        assert exporting.wait() == FAILED
    assert "Traceback" not in said
    assert len(said.splitlines()) <= 1, said


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 1 MiB in memory."""
    with mounted(Path("tmpfs"), tmp_path / "small", kind="tmpfs", options="size=1M") as path:
        yield path


@pytest.mark.parametrize("since", [(), ("--since", "@1")], ids=["image", "changes"])
def test_a_full_disk_leaves_a_file_that_is_named_partial(
    filled: Path, small_disk: Path, since: tuple[str, ...]
) -> None:
    target = small_disk / "b.img"
    line = refused(filled, NO_SPACE, "export", "b", "db", *since, "--to", target)
    assert f"what was written is in {target}.partial" in line
    assert [path.name for path in small_disk.iterdir()] == ["b.img.partial"]


def test_a_full_disk_behind_standard_output_is_said_too(filled: Path, small_disk: Path) -> None:
    with (small_disk / "piped").open("wb") as target:
        done = subprocess.run(
            [*program(), "export", "b", "db", "--to", "-"],
            env=environment(filled), stdout=target, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == NO_SPACE
    assert "No space left on device" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_partial_file_of_an_earlier_try_is_not_written_over(filled: Path, tmp_path: Path, second: bytes) -> None:
    (tmp_path / "b.img.partial").write_text("precious")
    assert "b.img.partial" in refused(filled, BUSY, "export", "b", "db", "--to", tmp_path / "b.img")
    assert (tmp_path / "b.img.partial").read_text() == "precious"
    must(filled, "export", "b", "db", "--to", tmp_path / "b.img", "--force")
    assert (tmp_path / "b.img").read_bytes() == second


def test_an_existing_target_is_kept(filled: Path, tmp_path: Path, second: bytes) -> None:
    target = tmp_path / "b.img"
    target.write_text("precious")
    assert "--force" in refused(filled, BUSY, "export", "b", "db", "--to", target)
    assert target.read_text() == "precious"
    must(filled, "export", "b", "db", "--to", target, "--force")
    assert target.read_bytes() == second


def test_a_symlink_is_never_followed(filled: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("precious")
    (tmp_path / "link").symlink_to("elsewhere")
    refused(filled, BUSY, "export", "b", "db", "--to", tmp_path / "link")
    refused(filled, DENIED, "export", "b", "db", "--to", tmp_path / "link", "--force")
    assert (tmp_path / "elsewhere").read_text() == "precious"


def test_a_device_is_written_only_if_it_is_large_enough_and_free(filled: Path, tmp_path: Path, second: bytes) -> None:
    for name, size_bytes in (("small", 2 * MIB), ("large", 8 * MIB)):
        with (tmp_path / name).open("wb") as backing:
            backing.truncate(size_bytes)
    with loop_device(tmp_path / "small") as device:
        refused(filled, NO_SPACE, "export", "b", "db", "--to", device, "--force")
        assert device.read_bytes() == bytes(2 * MIB)
    with loop_device(tmp_path / "large") as device:
        refused(filled, BUSY, "export", "b", "db", "--to", device)
        sh("mkfs.ext4", "-q", device)
        with mounted(device, tmp_path / "in-use"):
            refused(filled, BUSY, "export", "b", "db", "--to", device, "--force")
        must(filled, "export", "b", "db", "--to", device, "--force")
        assert device.read_bytes()[: 4 * MIB] == second


def test_json_and_bytes_do_not_share_an_output(filled: Path) -> None:
    done = subprocess.run(
        [*program(), "export", "b", "db", "--to", "-", "--json"],
        env=environment(filled),
        capture_output=True,
        check=False,
    )
    assert done.returncode == USAGE
    assert done.stdout == b""
    assert json.load(io.BytesIO(done.stderr))["error"]["kind"] == "UsageError"

"""snaps, at and diff: every change is refused; a damaged block costs itself alone."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.ground import program, serving, shown
from tests.support.files import opened
from tests.support.processes import Mounted, must, run, umount
from tests.support.volumes import flip_bit
from tests.support.waiting import eventually
from vsnapfs.repository.repository import Repository

BLOCKS = 1024
BLOCK = 4096
DAMAGED = 20

pytestmark = [pytest.mark.e2e, pytest.mark.requires_root, pytest.mark.requires_fuse]


def block(number: int) -> bytes:
    """A block that stands nowhere else."""
    return f"block {number:4}.".encode() + bytes([number % 255 + 1]) * (BLOCK - 11)


@pytest.fixture
def filled(repository: Path, tmp_path: Path) -> Path:
    """The repository with BLOCKS of data and the bookmarks a and b, and one block written again between b and c."""
    image = tmp_path / "image"
    blocks = [block(number) for number in range(BLOCKS)]
    with Repository.open(repository, owner=True) as opened:
        image.write_bytes(b"".join(blocks))
        opened.import_images({"db": image}, "a")
        opened.bookmark_add("b")
        blocks[DAMAGED] = block(2000)
        image.write_bytes(b"".join(blocks))
        opened.import_images({"db": image}, "c")
    return repository


@pytest.fixture(params=["serve", "mount"])
def tree(filled: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """Its tree, as the owner and as a reader shows it."""
    mountpoint = tmp_path / "mount"
    if request.param == "serve":
        with serving(filled, mountpoint):
            yield mountpoint
    else:
        with shown(filled, mountpoint):
            yield mountpoint


CHANGES = [
    "touch {}/snaps/new",
    "mkdir {}/snaps/new",
    "mkdir {}/at/new",
    "mkdir {}/diff/new",
    "rm -f {}/snaps/a/db",
    "rm -rf {}/snaps/a",
    "mv {}/snaps/a {}/snaps/z",
    "mv {}/at/@3/db {}/at/@3/x",
    "ln -s x {}/snaps/x",
    "ln {}/snaps/a/db {}/snaps/b/x",
    "rm -f {}/snaps/latest",
    "truncate -s 0 {}/snaps/a/db",
    "truncate -s 0 {}/at/@3/MANIFEST.json",
    "dd if=/dev/zero of={}/snaps/a/db bs=512 count=1 conv=notrunc status=none",
    "dd if=/dev/zero of={}/diff/a..c/db.json bs=512 count=1 status=none",
    "chmod 777 {}/snaps/a/db",
    "chown 1 {}/snaps/a",
    "touch {}/snaps/a/db",
    "touch {}/diff/a..c/db.json",
]


def test_programs_that_would_change_the_past_hear_of_a_read_only_filesystem(tree: Path) -> None:
    before = (tree / "snaps/a/db").read_bytes()
    for change in CHANGES:
        done = program("sh", "-c", change.replace("{}", str(tree)))
        assert done.returncode != 0, change
        assert "Read-only file system" in done.stderr, change + done.stderr
    assert sorted(os.listdir(tree / "snaps")) == ["a", "b", "c", "latest"]
    assert (tree / "snaps/a/db").read_bytes() == before


@pytest.fixture(params=["active", "sealed"])
def damaged(filled: Path, request: pytest.FixtureRequest) -> Path:
    """The repository with one bit of one block wrong, which the bookmarks a and b need, and c does not."""
    if request.param == "sealed":
        with Repository.open(filled, owner=True) as repository:
            repository.journal.seal()
    first = min((filled / "journal").glob("*.seg"))
    flip_bit(first, block(DAMAGED)[:11])
    return filled


def test_a_damaged_block_is_eio_and_its_neighbours_read_on(damaged: Path, tmp_path: Path) -> None:
    with Mounted(damaged, tmp_path / "mount", verb="mount", options=("--foreground",)) as reader:
        with opened(reader.mountpoint / "snaps/a/db") as fd:
            for number in range(BLOCKS):
                if number == DAMAGED:
                    with pytest.raises(OSError, match="Input/output") as caught:
                        os.pread(fd, BLOCK, number * BLOCK)
                    assert caught.value.errno == errno.EIO
                else:
                    assert os.pread(fd, BLOCK, number * BLOCK) == block(number)
        assert (reader.mountpoint / "snaps/c/db").read_bytes()[DAMAGED * BLOCK :].startswith(block(2000))
        eventually(lambda: '"segment"' in reader.log, "a line in the log")
        told = [json.loads(line) for line in reader.log.splitlines() if '"segment"' in line]
    assert {(line["level"], line["volume"], line["segment"]) for line in told} == {("error", 1, 1)}
    assert all(line["offset_bytes"] % BLOCK == 0 for line in told)


def test_dd_saves_all_but_the_damaged_block(damaged: Path, tmp_path: Path) -> None:
    with shown(damaged, tmp_path / "mount") as tree:
        saved = tmp_path / "saved"
        done = program(
            "dd", f"if={tree}/snaps/b/db", f"of={saved}", f"bs={BLOCK}", "conv=noerror,sync", f"count={BLOCKS}"
        )
    assert done.stderr.count("Input/output error") == 1
    expected = [block(number) if number != DAMAGED else bytes(BLOCK) for number in range(BLOCKS)]
    assert saved.read_bytes() == b"".join(expected)


def test_check_says_which_points_the_damage_costs(damaged: Path) -> None:
    assert must(damaged, "check")
    found = run(damaged, "check", "--read-data", "--json")
    assert found.returncode == 6
    (damage,) = json.loads(found.stdout)["damages"]
    assert damage["file"].startswith("journal/")
    assert damage["costs"] == ["a/db", "b/db"]
    assert not damage["derived"]
    said = run(damaged, "check", "--read-data").stdout
    assert f"{damage['file']} at byte {damage['offset_bytes']}" in said
    assert "costs a/db" in said


def test_damage_keeps_nobody_from_going_on(damaged: Path, tmp_path: Path) -> None:
    must(damaged, "bookmark", "add", "d")
    with serving(damaged, tmp_path / "mount") as server:
        assert (server.mountpoint / "snaps/d/db").read_bytes()[DAMAGED * BLOCK :].startswith(block(2000))
    assert run(damaged, "check", "--read-data").returncode == 6


def test_an_export_of_damage_fails_and_one_beside_it_does_not(damaged: Path, tmp_path: Path) -> None:
    failed = run(damaged, "export", "a", "db", "--to", tmp_path / "a.img")
    assert failed.returncode == 6
    assert f"{tmp_path / 'a.img.partial'}" in failed.stderr
    assert not (tmp_path / "a.img").exists()
    must(damaged, "export", "c", "db", "--to", tmp_path / "c.img")
    assert (tmp_path / "c.img").read_bytes()[DAMAGED * BLOCK :].startswith(block(2000))


def test_a_repository_on_a_disk_that_is_mounted_read_only(filled: Path, tmp_path: Path) -> None:
    """What changes nothing does what it does elsewhere; with the settings that would prune."""
    (filled / "vsnapfs.toml").write_text('[retention]\nprotection_window = "1ms"\nkeep_last = 1\n')
    read_only = tmp_path / "read-only"
    read_only.mkdir()
    questions = [["prune", "--dry-run"], ["bookmark", "list", "--space"], ["bookmark", "show", "b", "--space"]]
    expected = [must(filled, *words) for words in questions]
    subprocess.run(["mount", "--bind", filled, read_only], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", read_only], check=True)
        assert [must(read_only, *words) for words in questions] == expected
        refused = run(read_only, "prune")
        assert (refused.returncode, refused.stderr.count("\n")) == (4, 1)
        assert "Read-only file system" in refused.stderr
    finally:
        umount(read_only)

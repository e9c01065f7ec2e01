"""Which file bytes of a volume belong to, as the filesystem tells; and a hunt through mounted filesystems that ends at a file."""

from __future__ import annotations

import os
import random
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.ground import MIB, serving
from tests.support.attaching import left_behind
from tests.support.devices import loop_device, mounted, sh
from tests.support.hunting import branches, killed_at_line, lines_of, taken_away
from tests.support.partition_table import write_gpt
from tests.support.processes import Mounted, environment, make_repository, must, must_json, program
from tests.support.waiting import eventually, nothing_left
from vsnapfs.core.errors import UntestableError
from vsnapfs.core.hunt import HuntFile
from vsnapfs.hunt.files import Bytes, _of_mounted, files_at
from vsnapfs.hunt.log import read

SIZES = {"ext4": 32 * MIB, "xfs": 320 * MIB, "btrfs": 128 * MIB}
MAKE = {"ext4": ["mkfs.ext4", "-q", "-b", "4096"], "xfs": ["mkfs.xfs", "-q"], "btrfs": ["mkfs.btrfs", "-q"]}
BLOCK = 4096
PARTITION_AT = 3 * MIB
SEED = int(os.environ.get("VSNAPFS_HUNT_SEED", "1"))
KILLS = int(os.environ.get("VSNAPFS_HUNT_KILLS", "5"))

pytestmark = [pytest.mark.e2e, pytest.mark.requires_root, pytest.mark.requires_fuse]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where hunts make their directories; in the end nothing is left there."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "place"))
    monkeypatch.setenv("VSNAPFS_RUN", str(tmp_path / "run"))
    with taken_away(tmp_path / "place") as path:
        yield path
        nothing_left(lambda: [*left_behind(tmp_path), *path.iterdir()])


def put(path: Path, content: bytes) -> None:
    """Written over in place, or anew, and on the device when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        os.write(fd, content)
        os.fsync(fd)
    finally:
        os.close(fd)


def lies_at(path: Path) -> int:
    """Where a file's first block lies on its device, in bytes, as filefrag tells."""
    told = sh("filefrag", "-v", "-b1", path)
    first = re.search(r"^\s+0:\s+0\.\.\s*\d+:\s+(\d+)\.\.", told, re.MULTILINE)
    assert first is not None, told
    return int(first[1])


@contextmanager
def on_one_processor() -> Iterator[None]:
    """ext4 puts small files that are written on one processor side by side, and those of another megabytes away."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Image:
    """A filesystem with files, unmounted. ``at``: where each begins in the image."""

    def __init__(self, place: Path, kind: str, *, partition: bool = False) -> None:
        self.path = place / f"{kind}.img"
        start = PARTITION_AT if partition else 0
        with self.path.open("wb") as file:
            file.truncate(start + SIZES[kind] + (2 * MIB if partition else 0))
        if partition:
            write_gpt(self.path, [(MIB, MIB), (PARTITION_AT, SIZES[kind])])
        options = ["--offset", str(start), "--sizelimit", str(SIZES[kind])]
        device = Path(sh("losetup", "--find", "--show", *options, self.path).strip())
        try:
            sh(*MAKE[kind], device)
            with mounted(device, place / "filling") as top, on_one_processor():
                for name in ("one", "deep/er/two three", "deep/four", "gone"):
                    put(top / name, name.encode() * 100)
                os.link(top / "deep/four", top / "deep/er/linked")
                os.sync()
                self.at = {
                    name: start + lies_at(top / name) for name in ("one", "deep/er/two three", "deep/four", "gone")
                }
                (top / "gone").unlink()
        finally:
            sh("losetup", "--detach", device)
        (place / "filling").rmdir()

    def files(self, offset_bytes: int, length_bytes: int = BLOCK) -> list[HuntFile]:
        return files_at(self.path, offset_bytes, length_bytes, self.path.with_name("never"))[1]


@pytest.mark.parametrize("partition", [False, True], ids=["whole", "partition"])
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_blocks_of_files_are_told_with_their_paths(kind: str, partition: bool, tmp_path: Path) -> None:
    image = Image(tmp_path, kind, partition=partition)
    for name in ("one", "deep/er/two three"):
        assert [(file.path, file.what) for file in image.files(image.at[name])] == [(f"/{name}", "file")]
        assert [file.path for file in image.files(image.at[name] + 100, 12)] == [f"/{name}"], "a part of a block"
    (linked,) = image.files(image.at["deep/four"])
    assert linked.path in ("/deep/four", "/deep/er/linked")
    assert linked.inode is not None
    assert all(file.what != "file" for file in image.files(image.at["gone"]))
    start = PARTITION_AT if partition else 0
    assert all(file.what != "file" for file in image.files(start)), "the superblock"


def test_several_files_under_one_write_are_all_told(tmp_path: Path) -> None:
    image = Image(tmp_path, "ext4")
    first, last = min(image.at.values()), max(image.at.values())
    paths = {file.path for file in image.files(first, last - first + BLOCK)}
    assert {"/one", "/deep/er/two three"} <= paths


def test_the_journal_of_ext4_is_called_so(tmp_path: Path) -> None:
    image = Image(tmp_path, "ext4")
    block = int(sh("debugfs", "-R", "blocks <8>", image.path).split()[3])
    assert [file.what for file in image.files(block * BLOCK)] == ["journal"]


@pytest.mark.parametrize(("path", "what"), [("/deep/er", "directory"), ("/", "directory")])
def test_a_directory_is_called_so(tmp_path: Path, path: str, what: str) -> None:
    image = Image(tmp_path, "ext4")
    block = int(sh("debugfs", "-R", f"blocks {path}", image.path).split()[0])
    assert [(file.path, file.what) for file in image.files(block * BLOCK)] == [(path, what)]


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_mounted_files_tell_where_they_are(kind: str, tmp_path: Path) -> None:
    """What stands in where no program of the filesystem can be asked."""
    image = Image(tmp_path, kind)
    with loop_device(image.path) as device, mounted(device, tmp_path / "shown", options="ro") as top:
        for name in ("one", "deep/er/two three"):
            assert [file.path for file in _of_mounted(top, Bytes(image.at[name], BLOCK))] == [f"/{name}"]
            assert [file.path for file in _of_mounted(top, Bytes(image.at[name] + 100, 12))] == [f"/{name}"]
        with pytest.raises(UntestableError, match="no file has a piece there"):
            _of_mounted(top, Bytes(0, BLOCK))


def test_a_name_that_is_no_text_can_be_told(tmp_path: Path) -> None:
    image = Image(tmp_path, "ext4")
    with loop_device(image.path) as device, mounted(device, tmp_path / "shown") as top:
        os.rename(top / "one", os.fsencode(top) + b"/\xff")
        found = _of_mounted(top, Bytes(image.at["one"], BLOCK))
    assert [file.path for file in found] == ["/\ufffd"]
    assert [file.path for file in image.files(image.at["one"])] == ["/\ufffd"]


def test_what_nobody_can_tell_is_said_so(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_bytes(bytes(MIB))
    with pytest.raises(UntestableError, match="no filesystem that is known"):
        files_at(empty, 0, 1, tmp_path / "never")
    image = Image(tmp_path, "btrfs")
    with pytest.raises(UntestableError, match="btrfs does not tell"):
        image.files(0)
    disk = Image(tmp_path, "ext4", partition=True)
    with pytest.raises(UntestableError, match="in no partition"):
        disk.files(4096)


class Shop:
    """A volume ``disk`` with a filesystem in use, and orders in a file that were lost in one of several hours."""

    HOURS, LOST = 6, 4
    ORDERS = b"4711,Meyer,12.50\n" * 100

    def __init__(self, kind: str, server: Mounted, place: Path) -> None:
        self.repository = server.repository
        with loop_device(server.mountpoint / "live/disk") as device:
            sh(*MAKE[kind], device)
            with mounted(device, place / "disk") as top:
                put(top / "shop/orders.csv", self.ORDERS)  # with the umount it is not in the journal alone
            with mounted(device, place / "disk") as top:
                for hour in range(self.HOURS):
                    if hour == self.LOST:
                        put(top / "shop/orders.csv", bytes(len(self.ORDERS)))
                    put(top / f"shop/log-{hour}", os.urandom(3 * BLOCK))
                    must(self.repository, "bookmark", "add", f"hour-{hour}")
                self.at = lies_at(top / "shop/orders.csv")

    WORDS = ("hunt", "--good", "hour-0", "--bad", "-0s", "--mount", "--to-write")
    TEST = ("--", "grep", "-q", "^4711,", "{}/shop/orders.csv")

    ALONE = (
        f"echo $VSNAPFS_SEQNO >$1/mine && sync -f $1 && {TEST[1]} -q {TEST[3]} $1/shop/orders.csv; told=$?; "
        "[ $(cat $1/mine) = $VSNAPFS_SEQNO ] || exit 126; exit $told"
    )
    """The same test, which writes to what it is given, and is the only one to do so."""

    def hunted(self, log: Path, *options: str, test: tuple[str, ...] = TEST) -> Any:
        return must_json(self.repository, *self.WORDS, "--log", log, *options, *test)


@contextmanager
def shop_of(kind: str, place: Path) -> Iterator[Shop]:
    repository = make_repository(place / "repository", disk=SIZES[kind])
    with serving(repository, place / "mount") as server:
        yield Shop(kind, server, place)


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_hunt_ends_at_the_file_that_lost_its_content(kind: str, tmp_path: Path) -> None:
    with shop_of(kind, tmp_path) as shop:
        found = shop.hunted(tmp_path / "log")
        check(shop, found)
        read_only = shop.hunted(tmp_path / "log2", "--read-only", "--jobs", "2")
        check(shop, read_only)


@pytest.mark.parametrize("kind", ["xfs", "btrfs"])
def test_tests_side_by_side_have_a_filesystem_each(kind: str, tmp_path: Path) -> None:
    """All of one identity, mounted for writing at once."""
    with shop_of(kind, tmp_path) as shop:
        found = shop.hunted(tmp_path / "log", "--jobs", "4", test=("--", "sh", "-c", shop.ALONE, "sh", "{}"))
        if kind == "btrfs":
            assert (found["state"], found["first_bad_bookmark"]) == ("found", f"hour-{shop.LOST}")
            assert (found["write"]["filesystem"], found["write"]["files"]) == ("", [])
            assert "btrfs does not tell" in found["write"]["files_problem"]
        else:
            check(shop, found)
        assert branches(shop.repository) == []


def check(shop: Shop, found: Any) -> None:
    assert found["state"] == "found"
    assert (found["last_good_bookmark"], found["first_bad_bookmark"]) == (f"hour-{shop.LOST - 1}", f"hour-{shop.LOST}")
    write = found["write"]
    assert [file["path"] for file in write["files"]] == ["/shop/orders.csv"], write
    assert (write["offset_bytes"], write["length_bytes"], write["changed_bytes"]) == (shop.at, BLOCK, len(shop.ORDERS))
    assert "4711,Meyer" in write["hex_diff"][0]


def test_killed_again_and_again_it_comes_to_the_same_end(tmp_path: Path) -> None:
    """While it makes branches, mounts, tests, unmounts: nothing is asked twice but what was being asked, nothing is left."""
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    log = tmp_path / "log"
    with shop_of("ext4", tmp_path) as shop:
        words: tuple[str, ...] = (*shop.WORDS, "--jobs", "2", "--log", str(log), *shop.TEST)
        for _ in range(KILLS):
            killed_at_line(shop.repository, log, lines_of(log) + chance.randrange(2, 6), words)
            words = ("hunt", "--resume", str(log))
        found = must_json(shop.repository, *words)
        check(shop, found)
        told = [entry.state for entry in read(log).told]
        assert len(told) == len(set(told))
        assert read(log).left == []
        assert branches(shop.repository) == []


def test_what_a_killed_hunt_has_mounted_is_cleaned(tmp_path: Path, place: Path) -> None:
    holds = ("--", "sh", "-c", f"touch {tmp_path}/holds; sleep 60")
    with shop_of("ext4", tmp_path) as shop:
        process = subprocess.Popen(
            [*program(), *shop.WORDS, "--log", str(tmp_path / "log"), *holds], env=environment(shop.repository)
        )
        try:
            eventually((tmp_path / "holds").exists, "the test")
        finally:
            process.kill()
            process.wait()
        (branch,) = branches(shop.repository)
        (directory,) = place.glob("*/disk")
        cleaned = must_json(shop.repository, "hunt", "clean")
        assert cleaned == {"branches": [branch], "directories": [str(directory)], "at_work": []}
        assert branches(shop.repository) == []

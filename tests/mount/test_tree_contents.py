"""What is shown where, through the kernel."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from tests.mount.conftest import MIB, Shown
from vsnapfs.core.times import parse_iso
from vsnapfs.repository.repository import Repository

pytestmark = [pytest.mark.mount, pytest.mark.requires_fuse]

BLOCK = 4096


def write(path: Path, offset_bytes: int, content: bytes) -> None:
    """Into a live volume, durable."""
    fd = os.open(path, os.O_WRONLY)
    try:
        assert os.pwrite(fd, content, offset_bytes) == len(content)
        os.fsync(fd)
    finally:
        os.close(fd)


@pytest.fixture
def three(served: Shown) -> Shown:
    """Bookmarks a, b, c: db is written before a and before c, logs before b."""
    write(served / "live/db", 0, b"one" * 5000)
    served.repository.bookmark_add("a", consistency="application", application="postgres")
    write(served / "live/logs", 8192, b"log")
    served.repository.bookmark_add("b")
    write(served / "live/db", MIB, b"two")
    served.repository.bookmark_add("c", consistency="filesystem")
    return served


def test_the_tree(three: Shown) -> None:
    assert sorted(os.listdir(three.path)) == ["at", "branches", "diff", "live", "snaps"]
    assert sorted(os.listdir(three / "snaps")) == ["a", "b", "c", "latest"]
    assert os.readlink(three / "snaps/latest") == "c"
    for directory in ("snaps/a", "snaps/latest", "at/b", "at/-0s", "at/@2"):
        assert sorted(os.listdir(three / directory)) == ["MANIFEST.json", "db", "logs"], directory
    assert sorted(os.listdir(three / "diff/a..c")) == ["db.json", "logs.json"]
    assert sorted(os.listdir(three / "live")) == ["db", "logs"]
    assert os.listdir(three / "at") == os.listdir(three / "diff") == []


def test_each_point_reads_as_it_was(three: Shown) -> None:
    empty = bytes(4 * MIB)
    one = b"one" * 5000 + empty[15000:]
    three_ = one[:MIB] + b"two" + one[MIB + 3 :]
    for point, content in (("at/@2", empty), ("snaps/a", one), ("snaps/b", one), ("snaps/c", three_), ("at/c", three_)):
        assert (three / point / "db").read_bytes() == content, point
    assert (three / "live/db").read_bytes() == three_
    assert (three / "snaps/b/logs").read_bytes()[8192:8195] == b"log"
    assert (three / "snaps/a/logs").read_bytes() == bytes(MIB)


def test_a_time_is_a_point(three: Shown) -> None:
    bookmark = three.repository.bookmark("a")
    assert (three / "at" / bookmark.time / "db").read_bytes() == (three / "snaps/a/db").read_bytes()


def test_the_inode_is_that_of_the_last_write(three: Shown) -> None:
    db = [os.stat(three / f"snaps/{name}/db").st_ino for name in "abc"]
    logs = [os.stat(three / f"snaps/{name}/logs").st_ino for name in "abc"]
    assert db[0] == db[1] != db[2]
    assert logs[0] != logs[1] == logs[2]
    assert os.stat(three / "at/c/db").st_ino == db[2]


def test_attributes_of_a_volume(three: Shown) -> None:
    shown, volume = os.stat(three / "snaps/a/db"), three.repository.volume_at("db", three.repository.resolve("a"))
    assert stat.filemode(shown.st_mode) == "-r--r-----"
    assert (shown.st_size, shown.st_blocks, shown.st_blksize) == (4 * MIB, -(-15000 // 512), BLOCK)
    assert shown.st_mtime_ns == shown.st_ctime_ns == shown.st_atime_ns == parse_iso(volume.last_write_time)
    assert (shown.st_nlink, shown.st_uid, shown.st_gid) == (2, os.geteuid(), os.getegid())


def test_attributes_of_directories(three: Shown) -> None:
    bookmark = three.repository.bookmark("b")
    shown = os.stat(three / "snaps/b")
    assert stat.filemode(shown.st_mode) == "dr-xr-x---"
    assert (shown.st_mtime_ns, shown.st_nlink) == (bookmark.time_ns, 2)
    assert os.stat(three / "snaps").st_nlink == 5
    assert stat.filemode(os.stat(three.path).st_mode) == "dr-xr-xr-x"


def test_attributes_of_a_live_volume(three: Shown) -> None:
    shown = os.stat(three / "live/db")
    assert stat.filemode(shown.st_mode) == "-rw-------"
    assert (shown.st_size, shown.st_blocks) == (4 * MIB, 4 * MIB // 512)
    assert shown.st_mtime_ns == os.stat(three / "snaps/c/db").st_mtime_ns


def test_holes_are_found(three: Shown) -> None:
    with (three / "snaps/c/db").open("rb") as file:
        assert os.lseek(file.fileno(), 0, os.SEEK_HOLE) == 15000
        assert os.lseek(file.fileno(), 15000, os.SEEK_DATA) == MIB
        with pytest.raises(OSError, match="No such device or address"):
            os.lseek(file.fileno(), 2 * MIB, os.SEEK_DATA)


def test_the_manifest(three: Shown) -> None:
    path = three / "snaps/a/MANIFEST.json"
    content = path.read_bytes()
    assert len(content) == os.stat(path).st_size
    assert json.loads(content) == json.loads(json.dumps(three.repository.manifest(three.repository.resolve("a"))))
    assert json.loads((three / "at/@2/MANIFEST.json").read_bytes())["point"]["seqno"] == 2


def test_the_difference(three: Shown) -> None:
    path = three / "diff/a..c/db.json"
    content = path.read_bytes()
    assert len(content) == os.stat(path).st_size
    diff = json.loads(content)
    assert diff["extents"] == [{"offset_bytes": MIB, "length_bytes": 3, "zero": False}]
    assert json.loads((three / "diff/a..b/db.json").read_bytes())["extents"] == []


def test_text_can_be_read_in_pieces_and_sought(three: Shown) -> None:
    path = three / "snaps/a/MANIFEST.json"
    content = path.read_bytes()
    with path.open("rb", buffering=0) as file:
        assert os.pread(file.fileno(), 10, len(content) - 4) == content[-4:]
        assert os.pread(file.fileno(), 10, len(content)) == b""
        assert os.lseek(file.fileno(), 0, os.SEEK_HOLE) == len(content)
        os.fsync(file.fileno())


def test_xattrs_of_a_bookmark(three: Shown) -> None:
    bookmark = three.repository.bookmark("a")
    shown = {name: os.getxattr(three / "snaps/a", name).decode() for name in os.listxattr(three / "snaps/a")}
    assert shown == {
        "user.vsnapfs.seqno": str(bookmark.seqno),
        "user.vsnapfs.time": bookmark.time,
        "user.vsnapfs.consistency": "application",
        "user.vsnapfs.application": "postgres",
        "user.vsnapfs.profile": "",
    }


def test_xattrs_of_a_volume(three: Shown) -> None:
    volume = three.repository.volume_at("db", three.repository.resolve("b"))
    shown = {name: os.getxattr(three / "snaps/b/db", name).decode() for name in os.listxattr(three / "snaps/b/db")}
    assert shown == {
        "user.vsnapfs.seqno": str(volume.last_write_seqno),
        "user.vsnapfs.time": volume.last_write_time,
        "user.vsnapfs.data": "verify",
        "user.vsnapfs.verified": "checksums",
    }


@pytest.mark.parametrize(
    ("path", "name", "code"),
    [
        ("snaps/a", "user.vsnapfs.verified", errno.ENODATA),
        ("snaps/a/db", "user.vsnapfs.consistency", errno.ENODATA),
        ("snaps/a/db", "user.seqno", errno.ENODATA),
        ("live/db", "user.vsnapfs.seqno", errno.ENODATA),
        ("snaps/a/db", "trusted.x", errno.EOPNOTSUPP),
        ("snaps/a/db", "system.posix_acl_access", errno.EOPNOTSUPP),
    ],
)
def test_xattrs_that_are_not_there(three: Shown, path: str, name: str, code: int) -> None:
    with pytest.raises(OSError, match=os.strerror(code)) as caught:
        os.getxattr(three / path, name)
    assert caught.value.errno == code


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("snaps/nosuch", errno.ENOENT),
        ("snaps/a/nosuch", errno.ENOENT),
        ("at/nosuch", errno.ENOENT),
        ("at/@999999", errno.ENOENT),
        ("at/1999-01-01", errno.ENOENT),
        ("at/-5parsecs", errno.EINVAL),
        ("at/.git", errno.ENOENT),
        ("diff/a", errno.ENOENT),
        ("diff/a..nosuch", errno.ENOENT),
        ("diff/c..a/db.json", errno.EINVAL),
        ("live/nosuch", errno.ENOENT),
        ("snaps/" + "x" * 256, errno.ENAMETOOLONG),
        ("snaps/a/db/x", errno.ENOTDIR),
    ],
)
def test_paths_that_are_not_there(three: Shown, path: str, code: int) -> None:
    with pytest.raises(OSError, match=os.strerror(code)) as caught:
        os.stat(three / path)
    assert caught.value.errno == code


def test_statfs_is_that_of_the_repository(three: Shown) -> None:
    shown, below = os.statvfs(three.path), os.statvfs(three.repository.path)
    assert (shown.f_blocks, shown.f_frsize, shown.f_namemax) == (below.f_blocks, below.f_frsize, below.f_namemax)


def test_the_mount_is_in_the_table_with_its_source_and_guards(three: Shown) -> None:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    line = next(line for line in lines if line.split()[4] == str(three.path))
    assert line.split(" - ")[1].split()[:2] == ["fuse.vsnapfs", str(three.repository.path)]
    assert {"nosuid", "nodev", "noexec"} <= set(line.split()[5].split(","))


def test_find_and_du_walk_it(three: Shown) -> None:
    found = subprocess.run(["find", three / "snaps", "-type", "f"], check=True, capture_output=True, text=True)
    assert len(found.stdout.splitlines()) == 9
    du = subprocess.run(["du", "-k", three / "snaps/a/db"], check=True, capture_output=True, text=True)
    assert du.stdout.split()[0] == "15"


def test_the_same_is_shown_again_after_a_restart(three: Shown, tmp_path: Path) -> None:
    def numbers() -> dict[str, tuple[int, int, int, int]]:
        shown = {}
        for path in (
            "snaps/a",
            "snaps/a/db",
            "snaps/b/logs",
            "snaps/a/MANIFEST.json",
            "at/@3",
            "diff/a..c/db.json",
            "live/db",
        ):
            st = os.stat(three / path)
            shown[path] = (st.st_ino, st.st_size, st.st_blocks, st.st_mtime_ns)
        return shown

    before = numbers()
    three.stop()
    with Shown(three.repository, three.path, live=True):
        assert numbers() == before


def test_a_reader_shows_the_same_but_live(three: Shown) -> None:
    inode = os.stat(three / "snaps/a/db").st_ino
    three.stop()
    with (
        Repository.open(three.repository.path, owner=False) as repository,
        Shown(repository, three.path, live=False) as reader,
    ):
        assert sorted(os.listdir(reader.path)) == ["at", "diff", "snaps"]
        assert os.stat(reader / "snaps/a/db").st_ino == inode
        assert (reader / "snaps/a/db").read_bytes()[:6] == b"oneone"
        assert json.loads((reader / "diff/a..c/db.json").read_bytes())["changed_bytes"] == 3

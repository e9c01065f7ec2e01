"""What changes in a repository is seen in its mounts within a second, and what is open stays."""

from __future__ import annotations

import errno
import os
import time
from functools import partial
from pathlib import Path

import pytest

from tests.mount.conftest import MIB, Showing, Shown
from tests.support.waiting import eventually
from vsnapfs.binding import RecordKind
from vsnapfs.repository.repository import Repository
from vsnapfs.tree import nodes

pytestmark = [pytest.mark.mount, pytest.mark.requires_fuse]

SEEN_S = 15.0
"""That what a tree says and the kernel remembers is under a second old, tests/unit/tree/test_news.py holds. Here it is waited for, also
where the machine stands still for a moment."""
FUSE_READ = 15
MANY = 10_000


def names(path: Path) -> set[str]:
    return set(os.listdir(path))


def test_a_new_bookmark_is_there_at_once(served: Shown) -> None:
    assert not (served / "snaps/a").exists()
    assert not (served / "at/a").exists()
    served.repository.bookmark_add("a")
    assert (served / "snaps/a/db").exists()
    assert (served / "at/a/db").exists()
    assert names(served / "snaps") == {"a", "latest"}
    served.repository.bookmark_add("b")
    eventually(lambda: os.readlink(served / "snaps/latest") == "b", "latest moves on", deadline_s=SEEN_S)


def test_a_removed_bookmark_is_gone_within_a_second(served: Shown) -> None:
    served.repository.bookmark_add("a")
    os.stat(served / "snaps/a/db")
    served.repository.bookmark_remove("a")
    eventually(lambda: not (served / "snaps/a").exists(), "a is gone", deadline_s=SEEN_S)
    assert names(served / "snaps") == set()
    assert not (served / "snaps/latest").is_symlink()


def test_a_name_that_is_made_again_is_the_new_one_within_a_second(served: Shown) -> None:
    served.repository.bookmark_add("a")
    before = os.stat(served / "snaps/a").st_ino
    served.repository.bookmark_remove("a")
    served.repository.bookmark_add("a")
    eventually(lambda: os.stat(served / "snaps/a").st_ino != before, "a is the new one", deadline_s=SEEN_S)


def test_an_open_file_outlives_its_bookmark(served: Shown) -> None:
    with (served / "live/db").open("r+b") as live:
        live.write(b"x" * MIB)
    served.repository.bookmark_add("a")
    with (served / "snaps/a/db").open("rb", buffering=0) as file, (served / "snaps/a/MANIFEST.json").open("rb") as text:
        served.repository.bookmark_remove("a")
        eventually(lambda: not (served / "snaps/a").exists(), "a is gone", deadline_s=SEEN_S)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert os.pread(file.fileno(), 2 * MIB, 0) == b"x" * MIB + bytes(MIB)
        assert os.fstat(file.fileno()).st_size == 4 * MIB
        assert b'"a"' in text.read()


def test_a_directory_that_is_being_worked_in_outlives_its_bookmark(served: Shown) -> None:
    served.repository.bookmark_add("a")
    fd = os.open(served / "snaps/a", os.O_RDONLY | os.O_DIRECTORY)
    try:
        served.repository.bookmark_remove("a")
        eventually(lambda: not (served / "snaps/a").exists(), "a is gone", deadline_s=SEEN_S)
        assert sorted(os.listdir(fd)) == ["MANIFEST.json", "db", "logs"]
        assert os.stat("db", dir_fd=fd).st_size == 4 * MIB
    finally:
        os.close(fd)


@pytest.fixture
def remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel does not ask again for what it knows of live volumes, as long as a test takes."""
    monkeypatch.setattr(nodes, "LIVE_TIMEOUT_S", 300.0)


@pytest.mark.usefixtures("remembered")
def test_a_resize_is_seen_before_the_kernel_would_ask_again(served: Shown) -> None:
    with (served / "live/db").open("rb") as file:
        for size_bytes in (8 * MIB, 2 * MIB):
            assert os.fstat(file.fileno()).st_size != size_bytes
            served.repository.volume_resize("db", size_bytes)
            served.changed(content=False)
            resized = partial(has_size, file.fileno(), size_bytes)
            eventually(resized, "the new size")
            assert os.stat(served / "live/db").st_size == size_bytes


def has_size(fd: int, size_bytes: int) -> bool:
    return os.fstat(fd).st_size == size_bytes


@pytest.mark.usefixtures("remembered")
def test_content_that_changed_past_the_mount_is_read_anew(served: Shown) -> None:
    with (served / "live/db").open("rb", buffering=0) as file:
        assert os.pread(file.fileno(), 3, 0) == bytes(3)
        served.repository.journal.write(1, 0, b"new")
        served.changed(content=True)
        eventually(lambda: os.pread(file.fileno(), 3, 0) == b"new", "the new content")


def test_an_open_drops_nothing_of_what_was_written(served: Shown) -> None:
    """The kernel unlocks a page before its WRITE is answered: dropped then, a read ahead would bring the old bytes back."""
    path = served / "live/db"
    with path.open("r+b", buffering=0) as writer:
        os.pwrite(writer.fileno(), b"\x07" * MIB, 0)
        for _ in range(3):
            with path.open("rb", buffering=0) as reader:
                assert os.pread(reader.fileno(), MIB, 0) == b"\x07" * MIB
    assert FUSE_READ not in served.mount.counts()


def test_a_new_volume_is_live_at_once_and_a_removed_one_gone(served: Shown) -> None:
    assert not (served / "live/more").exists()
    served.repository.volume_add("more", size_bytes=MIB)
    assert os.stat(served / "live/more").st_size == MIB
    served.repository.volume_remove("more")
    eventually(lambda: not (served / "live/more").exists(), "more is gone", deadline_s=SEEN_S)
    with pytest.raises(OSError, match="No such file") as caught:
        os.open(served / "live/more", os.O_RDONLY)
    assert caught.value.errno == errno.ENOENT


def test_a_relative_point_moves(served: Shown) -> None:
    before = os.stat(served / "at/-0s").st_ino
    with (served / "live/db").open("r+b", buffering=0) as live:
        live.write(b"x")
        os.fsync(live.fileno())
    eventually(lambda: os.stat(served / "at/-0s").st_ino != before, "-0s moves", deadline_s=SEEN_S)
    assert (served / "at/-0s/db").read_bytes()[:1] == b"x"


def test_a_reader_beside_a_server_sees_the_same_within_a_second(
    repository: Repository, mountpoint: Path, start: Showing
) -> None:
    """This process owns the repository and writes; the reader is another process."""
    start(repository.path, "mount")
    assert names(mountpoint / "snaps") == set()
    repository.bookmark_add("a")
    assert (mountpoint / "snaps/a/db").exists()
    eventually(lambda: names(mountpoint / "snaps") == {"a", "latest"}, "a is listed", deadline_s=SEEN_S)
    repository.journal.write(1, 0, b"new")
    repository.bookmark_add("b")
    assert (mountpoint / "at/b/db").read_bytes()[:3] == b"new"
    eventually(lambda: os.readlink(mountpoint / "snaps/latest") == "b", "latest moves on", deadline_s=SEEN_S)
    repository.bookmark_remove("a")
    eventually(lambda: not (mountpoint / "snaps/a").exists(), "a is gone", deadline_s=SEEN_S)


@pytest.fixture
def many(repository: Repository) -> Repository:
    """A repository with MANY bookmarks, journalled in one commit."""
    path = repository.path
    for number in range(MANY):
        body = b'{"name":"b%05d","consistency":"crash","application":"","note":""}' % number
        repository.journal.event(RecordKind.BOOKMARK_ADD, body=body)
    repository.journal.commit()
    repository.close()
    return Repository.open(path, owner=False)


def test_ten_thousand_bookmarks_are_listed_without_delay(many: Repository, mountpoint: Path) -> None:
    expected = {f"b{number:05}" for number in range(MANY)} | {"latest"}
    with many, Shown(many, mountpoint, live=False) as shown:
        begun = time.monotonic()
        listings = [os.listdir(shown / "snaps") for _ in range(3)]
        taken_s = (time.monotonic() - begun) / len(listings)
        assert listings == [[*sorted(expected - {"latest"}), "latest"]] * 3
        assert taken_s < 5


def test_a_listing_neither_repeats_nor_skips_while_names_change(served: Shown) -> None:
    for number in range(200):
        served.repository.bookmark_add(f"b{number:03}")
    seen = []
    with os.scandir(served / "snaps") as entries:
        for index, entry in enumerate(entries):
            seen.append(entry.name)
            if index == 20:
                served.repository.bookmark_remove("b005")
                served.repository.bookmark_remove("b150")
                served.repository.bookmark_add("a-new", at="@3")
    kept = {f"b{number:03}" for number in range(200)} - {"b005", "b150"}
    assert kept <= set(seen)
    assert len(seen) == len(set(seen))

"""Existing images and devices as primaries: what they hold becomes the base, and nobody else may have them."""

from __future__ import annotations

import os
import random
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.devices import loop_device, mounted, sh
from tests.support.volumes import content_at, files_of, mark, put
from tests.support.waiting import eventually
from vsnapfs.core.errors import BusyError, DegradedError, IntegrityError, NotFoundError, StoreError, UsageError
from vsnapfs.core.state import Progress
from vsnapfs.repository import parts
from vsnapfs.repository.repository import Repository

SIZE = 256 << 10


@pytest.fixture
def image(memory_path: Path) -> Path:
    """Random bytes with a hole in the middle."""
    path = memory_path / "disk.img"
    with path.open("wb") as file:
        file.write(random.Random(7).randbytes(65536))
        file.seek(SIZE - 4096)
        file.write(b"end" + bytes(4093))
    return path


def test_the_image_is_the_base(repository: Repository, image: Path) -> None:
    before = image.read_bytes()
    told: list[Progress] = []
    volume = repository.volume_add("db0", primary=image, progress=told.append)
    assert (volume.primary, volume.primary_path, volume.base, volume.size_bytes) == ("path", str(image), True, SIZE)
    assert content_at(repository, "db0", "-0s") == before
    assert image.read_bytes() == before
    assert (told[-1].done, told[-1].total) == (SIZE, SIZE)
    mark(repository, "db0", 100, b"changed", "later")
    assert image.read_bytes() == content_at(repository, "db0", "later")
    assert content_at(repository, "db0", f"@{volume.added_seqno}") == before


def test_holes_stay_holes(repository: Repository, image: Path) -> None:
    volume = repository.volume_add("db0", primary=image)
    base = repository.path / "base" / f"{volume.id:08x}.img"
    assert base.stat().st_size == SIZE
    assert base.stat().st_blocks * 512 <= 65536 + 4096
    assert repository.volume_at("db0", repository.resolve("-0s")).data_bytes == 65536 + 4096


def test_a_large_sparse_image_takes_no_time(repository: Repository, memory_path: Path) -> None:
    image = memory_path / "large.img"
    with image.open("wb") as file:
        file.truncate(1 << 40)
        file.seek(1 << 39)
        file.write(b"in the middle")
    told: list[Progress] = []
    repository.volume_add("db0", primary=image, progress=told.append)
    assert len(told) == 3
    with repository.view("db0", repository.resolve("-0s")) as view:
        assert view.read(1 << 39, 13) == b"in the middle"


def test_a_symlink_is_resolved_once(repository: Repository, image: Path, path: Path) -> None:
    link = image.with_name("link")
    link.symlink_to(image.name)
    assert repository.volume_add("db0", primary=link).primary_path == str(image)
    link.unlink()
    repository.close()
    with Repository.open(path, owner=True) as again:
        assert again.status().problems == []


def test_relative_paths_are_made_absolute(repository: Repository, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(image.parent)
    assert repository.volume_add("db0", primary=Path(image.name)).primary_path == str(image)


def test_what_cannot_be_a_primary(repository: Repository, memory_path: Path) -> None:
    os.mkfifo(memory_path / "fifo")
    (memory_path / "directory").mkdir()
    (memory_path / "empty").touch()
    (memory_path / "odd").write_bytes(b"x" * 1000)
    (memory_path / "dangling").symlink_to("nowhere")
    (memory_path / "loop").symlink_to("loop")
    before = files_of(repository.path)
    for name in ("fifo", "directory", "empty", "odd"):
        with pytest.raises(UsageError, match=name):
            repository.volume_add("db0", primary=memory_path / name)
    for name in ("missing", "dangling"):
        with pytest.raises(NotFoundError, match=name):
            repository.volume_add("db0", primary=memory_path / name)
    for name in ("loop", "a\0b"):
        with pytest.raises((UsageError, StoreError)):
            repository.volume_add("db0", primary=memory_path / name)
    odd = Path(os.fsdecode(os.fsencode(memory_path) + b"/\xff"))
    odd.write_bytes(bytes(4096))
    with pytest.raises(UsageError, match="not text"):
        repository.volume_add("db0", primary=odd)
    with pytest.raises(UsageError, match="lies in the repository"):
        repository.volume_add("db0", primary=repository.path / "catalog.db")
    assert repository.volumes() == []
    assert set(files_of(repository.path)) == set(before)


def test_one_primary_one_volume(repository: Repository, image: Path) -> None:
    repository.volume_add("db0", primary=image)
    hard_link = image.with_name("hard")
    hard_link.hardlink_to(image)
    for path in (image, hard_link):
        with pytest.raises(BusyError, match="db0"):
            repository.volume_add("db1", primary=path)


def test_one_primary_one_repository(repository: Repository, image: Path, memory_path: Path) -> None:
    repository.volume_add("db0", primary=image)
    Repository.create(memory_path / "second")
    with Repository.open(memory_path / "second", owner=True) as second, pytest.raises(BusyError, match="in use"):
        second.volume_add("db0", primary=image)


def test_a_removed_primary_is_let_go_and_left_alone(repository: Repository, image: Path) -> None:
    repository.volume_add("db0", primary=image)
    put(repository, "db0", 0, b"last words")
    repository.volume_remove("db0")
    assert image.read_bytes()[:10] == b"last words"
    again = repository.volume_add("db1", primary=image)
    assert content_at(repository, "db1", f"@{again.added_seqno}")[:10] == b"last words"


def test_giving_up_leaves_nothing_behind(repository: Repository, image: Path) -> None:
    before = files_of(repository.path)

    def give_up(_: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        repository.volume_add("db0", primary=image, progress=give_up)
    assert files_of(repository.path) == before
    repository.volume_add("db0", primary=image)


def test_an_image_that_changes_under_the_copy_is_refused(repository: Repository, image: Path) -> None:
    def write_behind(_: Progress) -> None:
        with image.open("r+b") as file:
            file.write(b"surprise")
        os.utime(image, ns=(1, 1))

    with pytest.raises(BusyError, match="written to while"):
        repository.volume_add("db0", primary=image, progress=write_behind)
    assert repository.volumes() == []
    assert list((repository.path / "base").iterdir()) == []


def test_bookmarks_are_made_while_a_base_is_copied(repository: Repository, image: Path) -> None:
    """A copy may take hours; nobody else waits for it."""
    made: list[str] = []

    def meanwhile(_: Progress) -> None:
        thread = threading.Thread(target=lambda: made.append(repository.bookmark_add(f"b{len(made)}").name))
        thread.start()
        thread.join(timeout=20)

    repository.volume_add("db0", primary=image, progress=meanwhile)
    assert made[:2] == ["b0", "b1"]
    assert repository.bookmark("b0").seqno < repository.volume("db0").added_seqno


def test_closing_ends_a_copy(repository: Repository, image: Path, path: Path) -> None:
    """A server that is told to end must not wait for hours; what was begun leaves nothing behind."""
    threads: list[threading.Thread] = []

    def close_meanwhile(_: Progress) -> None:
        if not threads:
            threads.append(threading.Thread(target=repository.close))
            threads[0].start()
            eventually(repository._parts._ending.is_set, "the close begun")

    with pytest.raises(BusyError, match="being closed"):
        repository.volume_add("db0", primary=image, progress=close_meanwhile)
    threads[0].join()
    with Repository.open(path, owner=True) as again:
        assert again.volumes() == []
        assert list((path / "base").iterdir()) == []


def test_long_work_is_done_one_at_a_time(repository: Repository, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "WORK_WAIT_S", 0.01)
    refused: list[str] = []

    def ask(verb: Callable[[], object]) -> None:
        try:
            verb()
        except BusyError as error:
            refused.append(str(error))

    def meanwhile(_: Progress) -> None:
        for verb in (
            lambda: repository.volume_add("db1", size_bytes=SIZE),
            lambda: repository.import_images({"db2": image}, "b"),
        ):
            thread = threading.Thread(target=ask, args=(verb,))
            thread.start()
            thread.join()

    repository.volume_add("db0", primary=image, progress=meanwhile)
    assert refused
    assert {"the addition of db0 is running" in said for said in refused} == {True}
    assert [volume.name for volume in repository.volumes()] == ["db0"]


def test_resizing_an_outside_primary(repository: Repository, image: Path) -> None:
    repository.volume_add("db0", primary=image)
    repository.volume_resize("db0", 2 * SIZE)
    assert image.stat().st_size == 2 * SIZE
    repository.volume_resize("db0", 4096)
    assert image.stat().st_size == 4096
    assert image.read_bytes() == content_at(repository, "db0", "-0s")


class TestAtTheNextStart:
    """What may have become of a primary while nobody held it."""

    def reopen(self, path: Path) -> list[str]:
        with Repository.open(path, owner=True) as repository:
            status = repository.status()
            assert status.protected is (not status.problems)
            return status.problems

    def test_missing_and_back(self, repository: Repository, image: Path, path: Path) -> None:
        repository.volume_add("db0", primary=image)
        repository.volume_add("db1", size_bytes=SIZE)
        mark(repository, "db0", 0, b"x" * 4096, "a")
        repository.close()
        aside = image.rename(image.with_name("aside"))
        assert ["db0" in problem and "disk.img" in problem for problem in self.reopen(path)] == [True]
        with Repository.open(path, owner=True) as again:
            put(again, "db1", 0, b"goes on")
            assert content_at(again, "db0", "a")[:4096] == b"x" * 4096
            put(again, "db0", 8192, b"for later")
            with pytest.raises(DegradedError, match=r"disk\.img"):
                again.volume_resize("db0", 2 * SIZE)
            with pytest.raises(DegradedError, match=r"disk\.img"):
                again.volume_resync("db0")
            with pytest.raises(DegradedError, match=r"disk\.img"):
                again.import_images({"db0": aside}, "b")
        aside.rename(image)
        assert self.reopen(path) == []
        assert image.read_bytes()[8192:8201] == b"for later"

    def test_too_small(self, repository: Repository, image: Path, path: Path) -> None:
        repository.volume_add("db0", primary=image)
        repository.close()
        os.truncate(image, 4096)
        assert ["4096 bytes" in problem for problem in self.reopen(path)] == [True]
        assert image.stat().st_size == 4096

    def test_larger_is_no_problem(self, repository: Repository, image: Path, path: Path) -> None:
        repository.volume_add("db0", primary=image)
        repository.close()
        os.truncate(image, 2 * SIZE)
        assert self.reopen(path) == []
        assert image.stat().st_size == 2 * SIZE

    def test_replaced_by_a_symlink(self, repository: Repository, image: Path, path: Path, memory_path: Path) -> None:
        repository.volume_add("db0", primary=image)
        repository.close()
        victim = image.rename(memory_path / "victim")
        image.symlink_to(victim)
        assert ["victim" in problem for problem in self.reopen(path)] == [True]

    def test_in_use(self, repository: Repository, image: Path, path: Path, memory_path: Path) -> None:
        repository.volume_add("db0", primary=image)
        repository.close()
        Repository.create(memory_path / "second")
        with Repository.open(memory_path / "second", owner=True) as second:
            second.volume_add("stolen", primary=image)
            assert ["in use" in problem for problem in self.reopen(path)] == [True]

    def test_a_lost_thin_primary_is_not_replaced_by_zeros(self, repository: Repository, path: Path) -> None:
        volume = repository.volume_add("db0", size_bytes=SIZE)
        mark(repository, "db0", 0, b"x" * 4096, "a")
        repository.close()
        Path(volume.primary_path or "").unlink()
        assert ["db0" in problem for problem in self.reopen(path)] == [True]
        with Repository.open(path, owner=False) as reader:
            assert content_at(reader, "db0", "a")[:4096] == b"x" * 4096

    def test_a_lost_base_is_never_read_as_zeros(self, repository: Repository, image: Path, path: Path) -> None:
        volume = repository.volume_add("db0", primary=image)
        repository.close()
        for suffix in ("img", "idx"):
            (path / "base" / f"{volume.id:08x}.{suffix}").unlink()
        for owner in (True, False):
            with Repository.open(path, owner=owner) as again:
                with pytest.raises(IntegrityError, match="missing"):
                    again.view("db0", again.resolve("-0s"))
                assert any("missing" in problem for problem in again.status().problems)


class TestAfterACrash:
    """What a crash in the middle leaves is finished, undone, or set aside."""

    def test_unfinished_files_are_removed(self, repository: Repository, path: Path) -> None:
        repository.close()
        for name in ("base/00000001.img.part", "base/00000001.idx.part", "primary/00000001.img.part"):
            (path / name).write_bytes(b"half")
        before = files_of(path)
        with Repository.open(path, owner=False):
            assert files_of(path) == before, "a reader touches nothing"
        with Repository.open(path, owner=True):
            assert [name for name in files_of(path) if name.endswith(".part")] == []

    def test_a_base_that_the_journal_does_not_know_is_not_taken_for_one(
        self, repository: Repository, image: Path, path: Path, memory_path: Path
    ) -> None:
        """As after a crash between the last rename and the event: the next volume must not get the base of the lost."""
        Repository.create(memory_path / "second")
        with Repository.open(memory_path / "second", owner=True) as second:
            second.volume_add("lost", primary=image)
        for suffix in ("img", "idx"):
            shutil.copy(memory_path / "second" / "base" / f"00000001.{suffix}", path / "base" / f"00000001.{suffix}")
        repository.volume_add("db0", size_bytes=SIZE)
        assert content_at(repository, "db0", "-0s") == bytes(SIZE)
        assert (path / "base" / "00000001.img.bad").exists()

    def test_a_removal_is_finished(self, repository: Repository, path: Path) -> None:
        volume = repository.volume_add("db0", size_bytes=SIZE)
        repository.volume_remove("db0")
        repository.close()
        Path(volume.primary_path or "").write_bytes(bytes(SIZE))
        with Repository.open(path, owner=True):
            assert not Path(volume.primary_path or "").exists()

    def test_a_shrink_that_was_not_finished(self, repository: Repository, path: Path) -> None:
        volume = repository.volume_add("db0", size_bytes=SIZE)
        put(repository, "db0", 0, b"x" * SIZE)
        repository.volume_resize("db0", 4096)
        repository.close()
        with Path(volume.primary_path or "").open("r+b") as file:
            file.seek(4096)
            file.write(b"x" * (SIZE - 4096))
        with Repository.open(path, owner=True) as again:
            assert again.status().problems == []
            again.volume_resize("db0", SIZE)
            assert Path(volume.primary_path or "").read_bytes() == b"x" * 4096 + bytes(SIZE - 4096)


@pytest.mark.requires_root
class TestDevices:
    """Loop devices stand for any block device."""

    def test_a_block_device(self, repository: Repository, tmp_path: Path, path: Path) -> None:
        content = random.Random(3).randbytes(1 << 20)
        (tmp_path / "back").write_bytes(content)
        with loop_device(tmp_path / "back") as device:
            volume = repository.volume_add("db0", primary=device)
            assert (volume.primary_path, volume.size_bytes) == (str(device), 1 << 20)
            mark(repository, "db0", 8192, b"x" * 4096, "a")
            assert content_at(repository, "db0", f"@{volume.added_seqno}") == content
            with pytest.raises(UsageError, match="smaller"):
                repository.volume_resize("db0", 2 << 20)
            repository.volume_resize("db0", 512 << 10)
            repository.volume_resize("db0", 1 << 20)
            grown = content_at(repository, "db0", "-0s")
            assert grown[512 << 10 :] == bytes(512 << 10)
            assert device.read_bytes() == grown
            repository.close()
            with Repository.open(path, owner=True) as again:
                assert again.status().problems == []

    def test_nobody_mounts_a_device_behind_our_back(self, repository: Repository, tmp_path: Path) -> None:
        (tmp_path / "back").write_bytes(bytes(16 << 20))
        with loop_device(tmp_path / "back") as device:
            sh("mkfs.ext4", "-q", device)
            repository.volume_add("db0", primary=device)
            with pytest.raises(AssertionError, match=r"busy|already mounted"), mounted(device, tmp_path / "mnt"):
                pass
            repository.close()

    def test_a_mounted_device_is_refused(self, repository: Repository, tmp_path: Path) -> None:
        (tmp_path / "back").write_bytes(bytes(16 << 20))
        with loop_device(tmp_path / "back") as device:
            sh("mkfs.ext4", "-q", device)
            with mounted(device, tmp_path / "in use") as mountpoint:
                with pytest.raises(BusyError) as caught:
                    repository.volume_add("db0", primary=device)
                assert str(mountpoint) in str(caught.value)
        assert repository.volumes() == []

    def test_a_file_behind_a_loop_device_is_refused(self, repository: Repository, tmp_path: Path) -> None:
        (tmp_path / "back").write_bytes(bytes(1 << 20))
        with loop_device(tmp_path / "back") as device, pytest.raises(BusyError, match=str(device)):
            repository.volume_add("db0", primary=tmp_path / "back")

    def test_blocks_are_shared_where_the_filesystem_can(self, tmp_path: Path) -> None:
        size = 32 << 20
        with (tmp_path / "back").open("wb") as file:
            file.truncate(256 << 20)
        with loop_device(tmp_path / "back") as device:
            sh("mkfs.btrfs", "-q", device)
            with mounted(device, tmp_path / "btrfs") as top:
                (top / "disk.img").write_bytes(random.Random(5).randbytes(size))
                os.sync()
                Repository.create(top / "r")
                free_before = os.statvfs(top).f_bavail * os.statvfs(top).f_frsize
                with Repository.open(top / "r", owner=True) as repository:
                    repository.volume_add("db0", primary=top / "disk.img")
                    os.sync()
                    free_after = os.statvfs(top).f_bavail * os.statvfs(top).f_frsize
                    assert free_before - free_after < size // 4
                    base = (top / "disk.img").read_bytes()
                    mark(repository, "db0", 0, b"only the primary changes", "a")
                    assert content_at(repository, "db0", "@1") == base
                    assert content_at(repository, "db0", "a") == (top / "disk.img").read_bytes() != base

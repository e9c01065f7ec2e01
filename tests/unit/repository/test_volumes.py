"""Volumes come, change and go; every point keeps those it had."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.volumes import content_at, discard, mark, put
from vsnapfs.core.errors import NameTakenError, NotFoundError, ReadOnlyError, UsageError
from vsnapfs.repository.repository import Repository

SIZE = 64 << 10


def test_a_thin_volume(repository: Repository) -> None:
    volume = repository.volume_add("db0", size_bytes=SIZE, block_size_bytes=4096)
    primary = Path(volume.primary_path or "")
    assert (volume.id, volume.name, volume.size_bytes, volume.block_size_bytes) == (1, "db0", SIZE, 4096)
    assert (volume.primary, volume.base, volume.removed) == ("repository", False, False)
    assert primary.parent == repository.path / "primary"
    assert primary.stat().st_size == SIZE
    assert primary.stat().st_blocks == 0
    assert repository.volume("db0") == volume
    assert repository.volumes() == [volume]
    assert content_at(repository, "db0", "-0s") == bytes(SIZE)


def test_writes_reach_the_primary(repository: Repository) -> None:
    volume = repository.volume_add("db0", size_bytes=SIZE)
    put(repository, "db0", 1000, b"x" * 5000)
    repository.journal.commit()
    content = Path(volume.primary_path or "").read_bytes()
    assert content == bytes(1000) + b"x" * 5000 + bytes(SIZE - 6000)


@pytest.mark.parametrize("size", [0, -512, 513, 100, 2**47 + 512])
def test_sizes_that_cannot_be(repository: Repository, size: int) -> None:
    with pytest.raises(UsageError, match="512"):
        repository.volume_add("db0", size_bytes=size)
    assert repository.volumes() == []


def test_the_largest_and_the_smallest(repository: Repository) -> None:
    assert repository.volume_add("largest", size_bytes=2**47).size_bytes == 2**47
    assert repository.volume_add("smallest", size_bytes=512).size_bytes == 512
    assert [volume.name for volume in repository.volumes()] == ["largest", "smallest"]


def test_a_size_or_a_primary(repository: Repository, memory_path: Path) -> None:
    image = memory_path / "image"
    image.write_bytes(bytes(4096))
    with pytest.raises(UsageError, match="either"):
        repository.volume_add("db0")
    with pytest.raises(UsageError, match="either"):
        repository.volume_add("db0", size_bytes=4096, primary=image)
    with pytest.raises(UsageError, match="block size"):
        repository.volume_add("db0", size_bytes=4096, block_size_bytes=1024)
    with pytest.raises(UsageError, match="multiple of the block size"):
        repository.volume_add("db0", size_bytes=512, block_size_bytes=4096)


@pytest.mark.parametrize("name", ["", "a/b", "..", "-v", "MANIFEST.json", "x" * 128, "a..b", "é"])
def test_names_that_cannot_be(repository: Repository, name: str) -> None:
    with pytest.raises(UsageError):
        repository.volume_add(name, size_bytes=SIZE)


def test_a_name_is_taken_once(repository: Repository) -> None:
    repository.volume_add("db0", size_bytes=SIZE)
    with pytest.raises(NameTakenError):
        repository.volume_add("db0", size_bytes=SIZE)
    assert len(repository.volumes()) == 1
    assert len(list((repository.path / "primary").glob("*.img"))) == 1


def test_near_names_are_offered(repository: Repository) -> None:
    repository.volume_add("postgres", size_bytes=SIZE)
    with pytest.raises(NotFoundError) as caught:
        repository.volume("postgers")
    assert caught.value.near == ["postgres"]
    for change in (
        repository.volume_remove,
        repository.volume_resync,
        lambda name: repository.volume_resize(name, SIZE),
    ):
        with pytest.raises(NotFoundError):
            change("postgers")


def test_a_removed_volume_stays_in_its_points(repository: Repository) -> None:
    volume = repository.volume_add("db0", size_bytes=SIZE)
    mark(repository, "db0", 0, b"kept", "before")
    repository.volume_remove("db0")
    after = repository.bookmark_add("after")
    assert not Path(volume.primary_path or "").exists()
    assert repository.volumes() == []
    assert [gone.name for gone in repository.volumes(removed=True) if gone.removed] == ["db0"]
    assert [there.name for there in repository.volumes(repository.resolve("before"))] == ["db0"]
    assert repository.volumes(repository.resolve("after")) == []
    assert [there.removed for there in repository.volumes(repository.resolve("after"), removed=True)] == [True]
    assert content_at(repository, "db0", "before")[:4] == b"kept"
    with pytest.raises(NotFoundError):
        repository.view("db0", repository.resolve("after"))
    with pytest.raises(NotFoundError):
        repository.volume("db0")
    assert after.seqno > volume.added_seqno


def test_a_name_may_be_used_again(repository: Repository) -> None:
    repository.volume_add("db0", size_bytes=SIZE)
    mark(repository, "db0", 0, b"first", "one")
    repository.volume_remove("db0")
    second = repository.volume_add("db0", size_bytes=2 * SIZE)
    mark(repository, "db0", 0, b"other", "two")
    assert second.id == 2
    assert content_at(repository, "db0", "one")[:5] == b"first"
    assert content_at(repository, "db0", "two")[:5] == b"other"
    assert repository.volume("db0", repository.resolve("one")).size_bytes == SIZE
    both = repository.volumes(removed=True)
    assert [(volume.id, volume.removed) for volume in both] == [(1, True), (2, False)]


def test_growing(repository: Repository) -> None:
    repository.volume_add("db0", size_bytes=SIZE)
    mark(repository, "db0", SIZE - 512, b"x" * 512, "small")
    grown = repository.volume_resize("db0", 2 * SIZE)
    assert grown.size_bytes == 2 * SIZE
    mark(repository, "db0", 2 * SIZE - 512, b"y" * 512, "large")
    assert Path(grown.primary_path or "").read_bytes() == content_at(repository, "db0", "large")
    assert repository.volume("db0", repository.resolve("small")).size_bytes == SIZE
    assert len(content_at(repository, "db0", "small")) == SIZE
    assert content_at(repository, "db0", "large") == bytes(SIZE - 512) + b"x" * 512 + bytes(SIZE - 512) + b"y" * 512


def test_what_shrinking_cuts_off_stays_cut_off(repository: Repository) -> None:
    volume = repository.volume_add("db0", size_bytes=SIZE)
    mark(repository, "db0", 0, b"x" * SIZE, "full")
    repository.volume_resize("db0", 4096)
    assert Path(volume.primary_path or "").stat().st_size == 4096
    repository.bookmark_add("cut")
    repository.volume_resize("db0", SIZE)
    repository.bookmark_add("grown")
    assert content_at(repository, "db0", "full") == b"x" * SIZE
    assert content_at(repository, "db0", "cut") == b"x" * 4096
    assert content_at(repository, "db0", "grown") == b"x" * 4096 + bytes(SIZE - 4096)
    assert Path(volume.primary_path or "").read_bytes() == content_at(repository, "db0", "grown")


def test_resizing_to_the_same_size_changes_nothing(repository: Repository) -> None:
    volume = repository.volume_add("db0", size_bytes=SIZE)
    before = repository.journal.facts().last_seqno
    assert repository.volume_resize("db0", SIZE) == volume
    assert repository.journal.facts().last_seqno == before
    with pytest.raises(UsageError):
        repository.volume_resize("db0", 100)


def test_everything_is_there_after_a_restart(repository: Repository, path: Path) -> None:
    repository.volume_add("db0", size_bytes=SIZE)
    repository.volume_add("db1", size_bytes=SIZE)
    mark(repository, "db0", 0, b"x" * 9000, "one")
    repository.volume_resize("db0", 2 * SIZE)
    discard(repository, "db0", 4096, 4096)
    repository.volume_remove("db1")
    repository.bookmark_add("two")
    before = repository.volumes(removed=True), repository.bookmarks(), content_at(repository, "db0", "two")
    repository.close()
    for owner in (True, False):
        with Repository.open(path, owner=owner) as again:
            assert (again.volumes(removed=True), again.bookmarks(), content_at(again, "db0", "two")) == before
            assert again.status().problems == []


def test_a_reader_changes_nothing(repository: Repository, path: Path) -> None:
    repository.volume_add("db0", size_bytes=SIZE)
    with Repository.open(path, owner=False) as reader:
        for change in (
            lambda: reader.volume_add("x", size_bytes=SIZE),
            lambda: reader.volume_remove("db0"),
            lambda: reader.volume_resize("db0", SIZE * 2),
            lambda: reader.volume_resync("db0"),
        ):
            with pytest.raises(ReadOnlyError):
                change()


def test_the_generation_changes_with_every_name(repository: Repository) -> None:
    seen = [repository.generation]

    def changed() -> bool:
        seen.append(repository.generation)
        return seen[-1] not in seen[:-1]

    repository.volume_add("db0", size_bytes=SIZE)
    assert changed()
    repository.volume_resize("db0", 2 * SIZE)
    assert changed()
    repository.bookmark_add("a")
    assert changed()
    repository.bookmark_hold("a")
    assert changed()
    put(repository, "db0", 0, b"x")
    repository.journal.commit()
    repository.refresh()
    assert not changed()
    repository.volume_remove("db0")
    assert changed()

"""Volumes at points: manifests, counts of data, and a reader that follows the owner."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.volumes import content_at, discard, files_of, mark, put
from vsnapfs.binding import Journal
from vsnapfs.core.errors import NotFoundError
from vsnapfs.repository.repository import Repository

SIZE = 64 << 10


@pytest.fixture
def repository(repository: Repository) -> Repository:
    repository.volume_add("db0", size_bytes=SIZE)
    repository.volume_add("db1", size_bytes=2 * SIZE)
    return repository


def test_the_manifest(repository: Repository) -> None:
    put(repository, "db0", 0, b"x" * 8192)
    bookmark = repository.bookmark_add("a", consistency="filesystem", application="ext4", note="n")
    manifest = repository.manifest(repository.resolve("a"))
    assert list(manifest) == ["format", "repository", "point", "bookmark", "volumes"]
    assert (manifest["format"], manifest["repository"]) == (1, repository.uuid)
    assert manifest["point"] == {
        "seqno": bookmark.seqno,
        "time": bookmark.time,
        "time_ns": bookmark.time_ns,
        "bookmark": "a",
    }
    assert (manifest["bookmark"]["consistency"], manifest["bookmark"]["application"]) == ("filesystem", "ext4")
    first, second = manifest["volumes"]
    assert (first["name"], first["size_bytes"], first["data_bytes"], first["last_write_seqno"]) == (
        "db0",
        SIZE,
        8192,
        3,
    )
    assert (second["name"], second["size_bytes"], second["data_bytes"]) == ("db1", 2 * SIZE, 0)
    assert second["last_write_seqno"] == repository.volume("db1").added_seqno


def test_a_manifest_never_changes(repository: Repository, path: Path) -> None:
    mark(repository, "db0", 0, b"x", "a")

    def text(of: Repository) -> str:
        return json.dumps(of.manifest(of.resolve("a")))

    before = text(repository)
    put(repository, "db0", 0, b"y" * 9000)
    repository.bookmark_hold("a", "audit")
    repository.volume_remove("db1")
    repository.journal.seal()
    assert text(repository) == before
    repository.close()
    (path / "catalog.db").unlink()
    with Repository.open(path, owner=False) as reader:
        assert text(reader) == before


def test_a_manifest_of_any_point(repository: Repository) -> None:
    manifest = repository.manifest(repository.resolve("@1"))
    assert manifest["bookmark"] is None
    assert [volume["name"] for volume in manifest["volumes"]] == ["db0"]


def test_data_is_counted_exactly(repository: Repository) -> None:
    put(repository, "db0", 100, b"x" * 50)
    repository.bookmark_add("a")
    put(repository, "db0", 8192, b"y" * 4096)
    discard(repository, "db0", 8192, 512)
    repository.bookmark_add("b")
    counted = [repository.volume_at("db0", repository.resolve(name)).data_bytes for name in ("a", "b")]
    assert counted == [50, 50 + 4096 - 512]


def test_a_count_is_made_once(repository: Repository, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bookmarks between which nobody wrote to a volume share its count, also after a restart."""
    put(repository, "db0", 0, b"x" * 512)
    for name in ("a", "b", "c"):
        mark(repository, "db1", 0, name.encode(), name)
    views: list[tuple[int, int]] = []
    view = Journal.view

    def counted(self: Journal, volume: int, seqno: int) -> Any:
        views.append((volume, seqno))
        return view(self, volume, seqno)

    monkeypatch.setattr(Journal, "view", counted)
    for name in ("a", "b", "c"):
        assert repository.volume_at("db0", repository.resolve(name)).data_bytes == 512
    assert len(views) == 1
    repository.close()
    with Repository.open(path, owner=True) as again:
        assert again.volume_at("db0", again.resolve("b")).data_bytes == 512
    assert len(views) == 1


def test_a_volume_that_was_not_there(repository: Repository) -> None:
    repository.bookmark_add("before")
    repository.volume_add("late", size_bytes=SIZE)
    point = repository.resolve("before")
    for ask in (repository.volume_at, repository.view, repository.volume):
        with pytest.raises(NotFoundError):
            ask("late", point)


class TestReader:
    """A reader beside its owner, and by itself."""

    def test_it_follows(self, repository: Repository, path: Path) -> None:
        with Repository.open(path, owner=False) as reader:
            assert not reader.refresh()
            mark(repository, "db0", 0, b"news", "a")
            generation = reader.generation
            assert reader.refresh()
            assert reader.generation != generation
            assert reader.bookmarks() == repository.bookmarks()
            assert content_at(reader, "db0", "a")[:4] == b"news"
            assert not reader.refresh()
            repository.volume_add("db2", size_bytes=SIZE)
            repository.journal.seal()
            put(repository, "db2", 0, b"more")
            repository.journal.commit()
            assert reader.refresh()
            assert content_at(reader, "db2", "-0s")[:4] == b"more"

    def test_the_owner_sees_its_own_news(self, repository: Repository) -> None:
        repository.refresh()
        assert not repository.refresh()
        put(repository, "db0", 0, b"x")
        assert not repository.refresh()
        repository.journal.commit()
        assert repository.refresh()
        assert not repository.refresh()

    def test_it_writes_nothing(self, repository: Repository, path: Path) -> None:
        mark(repository, "db0", 0, b"x" * 5000, "a")
        repository.close()
        (path / "catalog.db").write_bytes(b"damaged")
        before = files_of(path)
        with Repository.open(path, owner=False) as reader:
            point = reader.resolve("a")
            reader.manifest(point)
            content_at(reader, "db0", "a")
            reader.status()
            reader.check(read_data=True)
            reader.refresh()
        assert files_of(path) == before

    def test_it_needs_no_catalog_and_no_maps(self, repository: Repository, path: Path) -> None:
        mark(repository, "db0", 0, b"x" * 5000, "a")
        repository.close()
        (path / "catalog.db").unlink()
        (path / "maps").rmdir()
        with Repository.open(path, owner=False) as reader:
            assert content_at(reader, "db0", "a")[:5000] == b"x" * 5000

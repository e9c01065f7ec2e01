"""The figures of `status`, and that nothing less than full protection passes for it."""

from __future__ import annotations

import os
from pathlib import Path

import apsw
import pytest

from tests.support.devices import mounted
from tests.support.volumes import content_at, mark, put
from vsnapfs.binding import Journal
from vsnapfs.catalog import store
from vsnapfs.core.errors import StoreError, VsnapfsError
from vsnapfs.daemon.housekeeping import Housekeeping
from vsnapfs.repository.repository import Repository

SIZE = 64 << 10
ZEROS_AHEAD = 1 << 20
"""What the open segment may hold behind its end."""


def test_figures(repository: Repository, memory_path: Path) -> None:
    image = memory_path / "image"
    image.write_bytes(b"x" * SIZE)
    repository.volume_add("db0", size_bytes=SIZE)
    repository.volume_add("ext", primary=image)
    mark(repository, "db0", 0, b"x" * 4096, "a")
    repository.journal.seal()
    mark(repository, "db0", 0, b"y" * 4096, "b")
    put(repository, "db0", 0, b"pending")
    status = repository.status()
    assert (status.repository, status.uuid) == (str(repository.path), repository.uuid)
    assert (status.last_seqno, status.committed_seqno, status.applied_seqno) == (7, 6, 6)
    assert (status.segments, status.bookmarks) == (2, 2)
    assert [volume.name for volume in status.volumes] == ["db0", "ext"]
    assert status.window_first is not None
    assert status.window_last is not None
    assert (status.window_first.seqno, status.window_last.seqno) == (1, 6)
    files_bytes = sum(path.stat().st_size for path in (repository.path / "journal").iterdir())
    assert 0 <= files_bytes - status.journal_bytes <= ZEROS_AHEAD
    assert SIZE <= status.base_bytes <= SIZE + 8192
    assert status.index_bytes > 0
    assert status.free_bytes > 0
    assert (status.commits > 0, status.commit_waits > 0) == (True, True)
    assert (status.protected, status.problems) == (True, [])
    assert (status.served, status.mountpoint, status.pid, status.requests) == (False, None, None, {})


def test_a_journal_that_failed(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = Journal.facts
    monkeypatch.setattr(Journal, "facts", lambda self: facts(self)._replace(failed=-5))
    status = repository.status()
    assert not status.protected
    assert ["journal failed" in problem for problem in status.problems] == [True]


def test_a_primary_that_failed(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = repository.volume_add("db0", size_bytes=SIZE)
    facts = Journal.facts
    monkeypatch.setattr(Journal, "facts", lambda self: facts(self)._replace(failed_volume=volume.id))
    assert ["db0" in problem for problem in repository.status().problems] == [True]


def test_a_primary_that_really_fails(repository: Repository) -> None:
    """The file is opened for reading only behind the journal's back, so that the write to it fails."""
    volume = repository.volume_add("db0", size_bytes=SIZE)
    held = repository._parts.primaries[volume.id]
    reading = os.open(Path(volume.primary_path or ""), os.O_RDONLY)
    os.dup2(reading, held)
    os.close(reading)
    put(repository, "db0", 0, b"x" * 4096)
    try:
        repository.journal.commit()
    except VsnapfsError:
        pass
    assert ["db0" in problem for problem in repository.status().problems] == [True]


def test_a_primary_that_could_not_be_attached(
    repository: Repository, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The volume is in the journal by then: it is there, it is not protected, and the next start mends it."""

    def refuse(*_: object) -> None:
        raise StoreError("Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(Journal, "attach_primary", refuse)
        with pytest.raises(StoreError):
            repository.volume_add("db0", size_bytes=SIZE)
    assert ["db0" in problem for problem in repository.status().problems] == [True]
    repository.close()
    with Repository.open(path, owner=True) as again:
        assert again.status().problems == []
        mark(again, "db0", 0, b"x", "a")


@pytest.mark.parametrize(("free", "expected"), [(4, 1), (5, 0), (100, 0)])
def test_little_space(repository: Repository, monkeypatch: pytest.MonkeyPatch, free: int, expected: int) -> None:
    real = os.fstatvfs(repository._parts.layout.fd)
    shown = os.statvfs_result((real[0], real[1], 100, free, free, *real[5:]))
    monkeypatch.setattr(os, "fstatvfs", lambda _: shown)
    problems = repository.status().problems
    assert len(problems) == expected
    assert all("are free" in problem for problem in problems)


def test_a_catalog_that_cannot_be_kept(repository: Repository, path: Path) -> None:
    repository.close()
    (path / "catalog.db").unlink()
    (path / "catalog.db-journal").unlink(missing_ok=True)
    (path / "catalog.db").mkdir()
    with Repository.open(path, owner=True) as again:
        again.bookmark_add("a")
        assert ["catalog" in problem for problem in again.status().problems] == [True]
    with Repository.open(path, owner=False) as reader:
        assert [bookmark.name for bookmark in reader.bookmarks()] == ["a"]
        assert reader.status().problems == []


def test_a_catalog_is_kept_again_when_its_disk_has_room(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a change that calls for it: a server looks after it once a second."""

    def full(_: object) -> None:
        raise apsw.FullError("database or disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(store, "_bookmark_row", full)
        repository.bookmark_add("a")
        Housekeeping(repository).once()
        assert ["disk is full" in problem for problem in repository.status().problems] == [True]
    Housekeeping(repository).once()
    assert repository.status().problems == []


@pytest.mark.requires_root
def test_a_full_disk(memory_path: Path) -> None:
    """Where it is to stop writes: nothing is acknowledged any more, everything is still readable, and room is all it takes to
    go on."""
    with mounted(Path("tmpfs"), memory_path / "small", options="size=4M", kind="tmpfs") as top:
        path = top / "r"
        Repository.create(path)
        (path / "vsnapfs.toml").write_text('[journal]\non_journal_failure = "strict"\n')
        repository = Repository.open(path, owner=True)
        repository.volume_add("db0", size_bytes=SIZE)
        kept = mark(repository, "db0", 0, b"kept", "kept")
        (top / "ballast").write_bytes(bytes(os.statvfs(top).f_bavail * os.statvfs(top).f_frsize - 8192))
        for _ in range(ZEROS_AHEAD // SIZE + 1):
            put(repository, "db0", 0, b"x" * SIZE)
        with pytest.raises(VsnapfsError):
            repository.bookmark_add("lost")
        with pytest.raises(VsnapfsError):
            repository.bookmark_add("lost-too")
        status = repository.status()
        assert not status.protected
        assert any("journal failed" in problem for problem in status.problems)
        assert repository.bookmarks() == [kept]
        assert content_at(repository, "db0", "kept")[:4] == b"kept"
        with pytest.raises(VsnapfsError):
            repository.close()
        (top / "ballast").unlink()
        with Repository.open(path, owner=True) as again:
            assert again.status().problems == []
            assert again.bookmarks() == [kept]
            assert content_at(again, "db0", "-0s")[:4] == b"kept"
            mark(again, "db0", 0, b"more", "more")

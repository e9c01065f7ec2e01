"""Making a repository, and what is, and is not, taken for one."""

from __future__ import annotations

import json
import stat
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.volumes import files_of
from vsnapfs.core.errors import FormatUnknownError, NotFoundError, UsageError, VsnapfsError
from vsnapfs.repository import identity
from vsnapfs.repository.layout import Layout
from vsnapfs.repository.repository import Repository


def test_a_new_repository_opens(memory_path: Path) -> None:
    path = memory_path / "r"
    Repository.create(path)
    for owner in (True, False):
        with Repository.open(path, owner=owner) as repository:
            assert repository.path == path.resolve()
            assert repository.owner is owner
            assert repository.volumes() == []
            assert repository.bookmarks() == []
            identity = json.loads((path / "repository.json").read_text())
            assert identity == {"format": 1, "features": [], "uuid": repository.uuid}
            assert str(uuid.UUID(repository.uuid)) == repository.uuid


def test_nobody_else_can_look_in(memory_path: Path) -> None:
    given = memory_path / "given"
    given.mkdir(mode=0o755)
    for path in (given, memory_path / "made"):
        Repository.create(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        for below in path.rglob("*"):
            assert stat.S_IMODE(below.stat().st_mode) == (0o700 if below.is_dir() else 0o600), below


def test_a_fresh_filesystem_counts_as_empty(memory_path: Path) -> None:
    (memory_path / "lost+found").mkdir()
    Repository.create(memory_path)
    Repository.open(memory_path, owner=True).close()


def test_a_directory_with_something_in_it_is_left_alone(memory_path: Path) -> None:
    memory_path.chmod(0o755)
    (memory_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match=r"thesis\.txt"):
        Repository.create(memory_path)
    assert files_of(memory_path) == {"thesis.txt": b"years of work"}
    assert stat.S_IMODE(memory_path.stat().st_mode) == 0o755


def test_features_that_come_at_once(memory_path: Path) -> None:
    """A gap, a prune and a first branch, each in a thread of its own."""
    path = memory_path / "r"
    Repository.create(path)
    with closing(Layout(path)) as layout, ThreadPoolExecutor(len(identity.FEATURES)) as threads:
        for _ in range(20):
            identity.write(layout, uuid.uuid4())
            list(threads.map(lambda feature: identity.add_feature(layout, feature), identity.FEATURES))
            assert json.loads((path / "repository.json").read_text())["features"] == sorted(identity.FEATURES)


def test_a_repository_is_not_made_twice(path: Path) -> None:
    before = files_of(path)
    with pytest.raises(UsageError):
        Repository.create(path)
    assert files_of(path) == before


def test_where_no_directory_can_be_made(memory_path: Path) -> None:
    (memory_path / "file").touch()
    with pytest.raises(UsageError, match="not a directory"):
        Repository.create(memory_path / "file")
    with pytest.raises(NotFoundError):
        Repository.create(memory_path / "missing" / "r")
    assert files_of(memory_path) == {"file": b""}


@pytest.mark.parametrize("owner", [True, False])
def test_what_is_no_repository_is_not_made_one(memory_path: Path, owner: bool) -> None:
    (memory_path / "empty").mkdir()
    for name in ("missing", "empty"):
        with pytest.raises(NotFoundError) as caught:
            Repository.open(memory_path / name, owner=owner)
        assert "vsnapfs init" in str(caught.value)
    assert files_of(memory_path) == {"empty": b""}


def test_a_file_is_no_repository(memory_path: Path) -> None:
    (memory_path / "file").touch()
    with pytest.raises(FormatUnknownError):
        Repository.open(memory_path / "file", owner=False)


@pytest.mark.parametrize(
    "identity",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b'{"format": "one", "features": [], "uuid": "7d2f9518-a387-4c5e-8f61-8a39a716dbe8"}',
        b'{"format": 1, "features": [], "uuid": "none"}',
        b'{"config": {"version": 1}}',
        b'{"format": 2, "features": [], "uuid": "7d2f9518-a387-4c5e-8f61-8a39a716dbe8"}',
        b'{"format": 1, "features": ["tiers"], "uuid": "7d2f9518-a387-4c5e-8f61-8a39a716dbe8"}',
    ],
)
def test_another_format_is_refused_and_left_alone(path: Path, identity: bytes) -> None:
    (path / "repository.json").write_bytes(identity)
    before = files_of(path)
    for owner in (True, False):
        with pytest.raises(FormatUnknownError) as caught:
            Repository.open(path, owner=owner)
        assert "\n" not in str(caught.value)
    assert files_of(path) == before


def test_members_of_the_identity_that_we_do_not_know_are_ignored(path: Path) -> None:
    identity = json.loads((path / "repository.json").read_text()) | {"made_by": "somebody"}
    (path / "repository.json").write_text(json.dumps(identity))
    Repository.open(path, owner=True).close()


def test_a_journal_of_another_repository_is_refused(path: Path) -> None:
    identity = json.loads((path / "repository.json").read_text()) | {"uuid": str(uuid.uuid4())}
    (path / "repository.json").write_text(json.dumps(identity))
    with pytest.raises(VsnapfsError) as caught:
        Repository.open(path, owner=True)
    assert caught.value.exit_status == 6


def test_derived_directories_may_be_deleted(path: Path) -> None:
    (path / "maps").rmdir()
    with Repository.open(path, owner=True) as repository:
        assert repository.status().problems == []
    assert (path / "maps").is_dir()


def test_a_failed_open_lets_go_of_everything(path: Path) -> None:
    (path / "vsnapfs.toml").write_text("nonsense = 1")
    with pytest.raises(UsageError):
        Repository.open(path, owner=True)
    (path / "vsnapfs.toml").unlink()
    Repository.open(path, owner=True).close()


def test_close_twice(path: Path) -> None:
    repository = Repository.open(path, owner=True)
    repository.close()
    repository.close()

"""Who else can write to a repository: then it is not used."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from tests.support.processes import environment, program, run
from vsnapfs.core.errors import IntegrityError, PermissionDeniedError
from vsnapfs.repository.lock import lock_repository
from vsnapfs.repository.repository import Repository

NOBODY = 65534
BELOW = ["repository.json", "vsnapfs.toml", "catalog.db", "journal", "maps", "base", "primary", "journal/{segment}"]


@pytest.fixture
def used(path: Path) -> Path:
    """A repository that has been in use."""
    with Repository.open(path, owner=True) as repository:
        repository.volume_add("db", size_bytes=65536)
        repository.bookmark_add("a")
    return path


def below(path: Path, name: str) -> Path:
    return path / name.format(segment=os.listdir(path / "journal")[0])


def refusal(path: Path, *, owner: bool) -> str:
    with pytest.raises(PermissionDeniedError) as caught:
        Repository.open(path, owner=owner)
    assert caught.value.exit_status == 4
    if owner:
        with pytest.raises(PermissionDeniedError):
            lock_repository(path)
    return str(caught.value)


def test_everything_in_a_repository_is_its_owners_alone(used: Path) -> None:
    modes = {entry: stat.S_IMODE(entry.lstat().st_mode) for entry in [used, *used.rglob("*")]}
    assert len(modes) > 8
    for entry, mode in modes.items():
        assert mode == (0o700 if entry.is_dir() else 0o600), entry


@pytest.mark.parametrize("mask", [0, 0o777])
def test_whatever_the_umask_is(memory_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        Repository.create(memory_path / "r")
        with Repository.open(memory_path / "r", owner=True) as repository:
            repository.volume_add("db", size_bytes=65536)
    finally:
        os.umask(before)
    test_everything_in_a_repository_is_its_owners_alone(memory_path / "r")


@pytest.mark.parametrize("mode", [0o770, 0o720, 0o702, 0o777, 0o1777])
@pytest.mark.parametrize("owner", [True, False])
def test_a_repository_that_others_can_write_to_is_refused(used: Path, mode: int, owner: bool) -> None:
    used.chmod(mode)
    line = refusal(used, owner=owner)
    assert str(used) in line
    assert "chmod -R go-w" in line
    assert stat.S_IMODE(used.stat().st_mode) == mode, "nobody has mended it on the quiet"


@pytest.mark.parametrize("name", BELOW)
@pytest.mark.parametrize("owner", [True, False])
def test_so_is_one_with_anything_that_others_can_get_at_and_write_to(used: Path, name: str, owner: bool) -> None:
    used.chmod(0o755)
    for directory in ("journal", "maps", "base", "primary"):
        (used / directory).chmod(0o755)
    target = below(used, name)
    target.chmod(stat.S_IMODE(target.stat().st_mode) | 0o022)
    assert str(target) in refusal(used, owner=owner)


@pytest.mark.parametrize("name", BELOW)
def test_nobody_gets_past_a_closed_directory(used: Path, name: str) -> None:
    below(used, name).chmod(0o777)
    Repository.open(used, owner=True).close()


def test_one_that_others_can_only_read_is_read_and_an_owner_closes_it(used: Path) -> None:
    """So it is when a copy was made with the usual umask."""
    for entry in [used, *used.rglob("*")]:
        entry.chmod(0o755 if entry.is_dir() else 0o644)
    with Repository.open(used, owner=False) as repository:
        assert repository.bookmark("a").name == "a"
    assert stat.S_IMODE(used.stat().st_mode) == 0o755
    Repository.open(used, owner=True).close()
    assert stat.S_IMODE(used.stat().st_mode) == 0o700


@pytest.mark.requires_root
class TestOwners:
    @pytest.fixture
    def foreign(self, used: Path) -> Path:
        """All of it belongs to another user."""
        for entry in [used, *used.rglob("*")]:
            os.chown(entry, NOBODY, NOBODY)
        return used

    @pytest.mark.parametrize("owner", [True, False])
    def test_somebody_elses_is_not_used(self, foreign: Path, owner: bool) -> None:
        """Its owner could change it while it is in use."""
        assert f"belongs to user {NOBODY}" in refusal(foreign, owner=owner)

    def test_no_repository_is_made_in_somebody_elses_directory(self, memory_path: Path) -> None:
        (memory_path / "theirs").mkdir()
        os.chown(memory_path / "theirs", NOBODY, NOBODY)
        with pytest.raises(PermissionDeniedError, match="belongs to user"):
            Repository.create(memory_path / "theirs")
        assert os.listdir(memory_path / "theirs") == []

    @pytest.mark.parametrize("name", BELOW)
    @pytest.mark.parametrize("owner", [True, False])
    def test_a_part_that_belongs_to_somebody_else(self, used: Path, name: str, owner: bool) -> None:
        used.chmod(0o755)
        (used / "journal").chmod(0o755)
        os.chown(below(used, name), NOBODY, NOBODY)
        assert f"belongs to user {NOBODY}" in refusal(used, owner=owner)

    def test_a_filesystem_that_nobody_can_write_to(self, foreign: Path) -> None:
        """An old copy is readable whosever it was and whatever modes it has."""
        foreign.chmod(0o777)
        script = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"'
        command = ["unshare", "--mount", "sh", "-c", script, "sh", str(foreign), *program(), "--repo", str(foreign)]
        assert "a " in run_within(command, "bookmark", "list")
        assert "0 damaged" in run_within(command, "check", "--read-data")
        assert "read-only" in run_within(command, "bookmark", "add", "b", status=4).lower()


def run_within(command: list[str], *words: str, status: int = 0) -> str:
    done = subprocess.run(
        [*command, *words], env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("directory", ["journal", "maps", "base", "primary"])
def test_a_directory_that_is_none(used: Path, memory_path: Path, directory: str) -> None:
    kept = memory_path / "kept"
    (used / directory).rename(kept)
    (used / directory).symlink_to(kept)
    for owner in (True, False):
        with pytest.raises(IntegrityError, match="is a symlink"):
            Repository.open(used, owner=owner)
    (used / directory).unlink()
    (used / directory).write_text("")
    for owner in (True, False):
        with pytest.raises(IntegrityError, match="is no directory"):
            Repository.open(used, owner=owner)


def test_the_command_says_it_in_one_line(used: Path) -> None:
    used.chmod(0o770)
    done = run(used, "bookmark", "list")
    assert (done.returncode, len(done.stderr.splitlines())) == (4, 1)

"""Repository paths that are none of ours, a second server, and a configuration with mistakes."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.e2e.ground import refused, serving
from tests.support.processes import Mounted, environment, must, must_json, program, run
from tests.support.volumes import files_of
from tests.support.waiting import eventually
from vsnapfs.repository.repository import Repository

USAGE, NOT_FOUND, BUSY, FORMAT_UNKNOWN = 2, 3, 5, 10

pytestmark = [pytest.mark.e2e, pytest.mark.requires_root, pytest.mark.requires_fuse]


def commands(mountpoint: Path) -> list[tuple[str, ...]]:
    """One of each kind: changes, asks, reads, shows."""
    mountpoint.mkdir(exist_ok=True)
    return [
        ("volume", "add", "x", "--size", "1M"),
        ("bookmark", "list"),
        ("bookmark", "add", "x"),
        ("check",),
        ("serve", str(mountpoint)),
        ("mount", str(mountpoint)),
    ]


def test_a_repository_that_is_not_there_is_never_made_on_the_quiet(tmp_path: Path) -> None:
    missing, empty = tmp_path / "missing", tmp_path / "empty"
    empty.mkdir()
    for command in commands(tmp_path / "mount"):
        assert "vsnapfs init" in refused(missing, NOT_FOUND, *command)
        assert "vsnapfs init" in refused(empty, NOT_FOUND, *command)
    assert not missing.exists()
    assert list(empty.iterdir()) == []


def test_what_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    file, full, foreign, newer = (tmp_path / name for name in ("file", "full", "foreign", "newer"))
    file.write_text("mine")
    full.mkdir()
    (full / "letter").write_text("mine")
    foreign.mkdir()
    (foreign / "repository.json").write_text('{"name": "of another program"}')
    Repository.create(newer)
    identity = json.loads((newer / "repository.json").read_text())
    (newer / "repository.json").write_text(json.dumps(identity | {"format": 2}))
    before = [files_of(path) for path in (full, foreign, newer)]
    for command in commands(tmp_path / "mount"):
        refused(file, FORMAT_UNKNOWN, *command)
        refused(foreign, FORMAT_UNKNOWN, *command)
        assert "letter" in refused(full, FORMAT_UNKNOWN, *command)
        assert "newer" in refused(newer, FORMAT_UNKNOWN, *command)
    assert [files_of(path) for path in (full, foreign, newer)] == before
    assert file.read_text() == "mine"


def test_features_that_are_not_known_are_named(repository: Path) -> None:
    path = repository / "repository.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"features": ["warp"]}))
    assert "warp" in refused(repository, FORMAT_UNKNOWN, "status")


def test_no_repository_named_is_wrong_usage() -> None:
    assert "VSNAPFS_REPO" in refused(None, USAGE, "bookmark", "list")
    assert "VSNAPFS_REPO" in refused(None, USAGE, "--repo", "", "bookmark", "list")


def test_init_takes_nothing_that_holds_something(tmp_path: Path, repository: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("mine")
    assert "file" in refused(tmp_path / "full", USAGE, "init")
    before = files_of(repository)
    refused(repository, USAGE, "init")
    assert files_of(repository) == before
    (tmp_path / "file").write_text("mine")
    refused(tmp_path / "file", USAGE, "init")
    refused(tmp_path / "no/parent", NOT_FOUND, "init")
    (tmp_path / "empty").mkdir(mode=0o755)
    must(tmp_path / "empty", "init")
    assert (tmp_path / "empty").stat().st_mode & 0o777 == 0o700


def test_a_second_server_is_told_the_pid_of_the_first(repository: Path, server: Mounted, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for mountpoint in (other, server.mountpoint):
        assert f"process {server.pid}" in refused(repository, BUSY, "serve", mountpoint)
    told = run(repository, "serve", other, "--json")
    assert json.loads(told.stderr)["error"]["fields"]["pid"] == server.pid
    assert (server.mountpoint / "live/db").exists()
    assert must_json(repository, "status")["pid"] == server.pid


def test_so_is_one_in_other_namespaces(repository: Path, server: Mounted, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
    done = subprocess.run(
        [*namespaces, *program(), "serve", str(other), "--json"],
        env=environment(repository), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == BUSY, done.stderr
    assert json.loads(done.stderr)["error"]["fields"]["pid"] == server.pid
    assert must_json(repository, "status")["pid"] == server.pid


def test_a_mount_point_in_use_is_refused(repository: Path, server: Mounted, tmp_path: Path) -> None:
    assert "already shows" in refused(repository, BUSY, "mount", server.mountpoint)
    refused(repository, NOT_FOUND, "mount", tmp_path / "missing")
    (tmp_path / "file").write_text("")
    refused(repository, USAGE, "mount", tmp_path / "file")
    refused(repository, USAGE, "mount", repository / "journal")


def test_after_its_server_the_lock_is_free(repository: Path, tmp_path: Path) -> None:
    with serving(repository, tmp_path / "mount") as server:
        server.kill()
    eventually(
        lambda: run(repository, "bookmark", "add", "a").returncode == 0, "the worker has ended, and the lock is free"
    )
    with serving(repository, tmp_path / "mount"):
        assert sorted(os.listdir(tmp_path / "mount/snaps")) == ["a", "latest"]
    must(repository, "bookmark", "add", "b")


MISTAKES = {
    '[journal]\nsegment_sise = "64M"\n': ("line 2", "segment_sise", "did you mean segment_size?"),
    '[journal]\nack = "both"\n[jurnal]\nack = "both"\n': ("line 3", "jurnal", "did you mean journal?"),
    "[mount]\n\nallow_others = true\n": ("line 3", "allow_others", "did you mean allow_other?"),
    "[journal]\nsegment_size = 64\n": ("line 2", "segment_size"),
    '[journal]\nsegment_size = "64 furlongs"\n': ("line 2", "segment_size", "64 furlongs"),
    '[journal]\nsegment_size = "1K"\n': ("line 2", "segment_size"),
    '[journal]\nack = "none"\n': ("line 2", "ack"),
    '[mount]\nuid = "root"\n': ("line 2", "uid"),
    "[mount]\ngid = -1\n": ("line 2", "gid"),
    "[journal\n": ("line 1",),
    "journal = 1\n": ("line 1", "journal"),
}


@pytest.mark.parametrize("text", list(MISTAKES))
def test_a_mistake_in_the_configuration_is_said_with_its_line(repository: Path, tmp_path: Path, text: str) -> None:
    (repository / "vsnapfs.toml").write_text(text)
    (tmp_path / "mount").mkdir()
    for command in (("bookmark", "add", "x"), ("serve", str(tmp_path / "mount"))):
        line = refused(repository, USAGE, *command)
        for word in (str(repository / "vsnapfs.toml"), *MISTAKES[text]):
            assert word in line


def test_a_running_server_keeps_the_configuration_it_began_with(repository: Path, server: Mounted) -> None:
    (repository / "vsnapfs.toml").write_text("[journal]\nwrong = 1\n")
    must(repository, "bookmark", "add", "x")
    assert must_json(repository, "status")["protected"]
    assert (server.mountpoint / "snaps/x/db").exists()

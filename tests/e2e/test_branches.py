"""Branches as a user has them: by the command, with a server and without, with a filesystem on a loop device."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from tests.e2e.ground import MIB, refused, serving
from tests.support.devices import loop_device, mounted, sh
from tests.support.files import opened, pread_all, pwrite_all
from tests.support.processes import Mounted, must, must_json, run
from tests.support.waiting import eventually
from vsnapfs.repository.repository import Repository

pytestmark = [pytest.mark.e2e, pytest.mark.requires_root, pytest.mark.requires_fuse, pytest.mark.timeout(600)]


WRITE = os.O_RDWR | os.O_CREAT


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """With the thin volume ``db`` of 32 MiB, and bookmark ``a``."""
    path = tmp_path / "repository"
    Repository.create(path)
    with Repository.open(path, owner=True) as repository:
        repository.volume_add("db", size_bytes=32 * MIB)
        repository.bookmark_add("a")
    return path


def branches(repository: Path) -> dict[str, dict[str, object]]:
    return {branch["name"]: branch for branch in must_json(repository, "branch", "list")["branches"]}


def test_without_a_server(repository: Path) -> None:
    assert must(repository, "branch", "add", "x", "--from", "a", "--note", "why").startswith("added branch x on @2, ")
    must(repository, "branch", "add", "y", "--from", "branch:x", "--quota", "1M")
    lines = must(repository, "branch", "list").splitlines()
    assert lines[0].split() == ["NAME", "FROM", "POINT", "USED", "QUOTA", "OPEN", "NOTE"]
    assert lines[1].split() == ["x", "a", "@2", "0", "B", "-", "-", "why"]
    assert lines[2].split() == ["y", "branch:x", "@2", "0", "B", "1", "MiB", "-"]
    shown = must(repository, "branch", "show", "y")
    assert "from:        branch:x" in shown
    assert "db" in shown
    assert "removed branch x" in must(repository, "branch", "remove", "x")
    assert list(branches(repository)) == ["y"]
    assert "branches:   1, " in run(repository, "status").stdout


def test_refusals(repository: Path) -> None:
    must(repository, "branch", "add", "monday", "--from", "a")
    assert "taken" in (line := refused(repository, 5, "branch", "add", "monday", "--from", "a")) or "already" in line
    assert "did you mean monday" in refused(repository, 3, "branch", "show", "mondey")
    assert "did you mean monday" in refused(repository, 3, "branch", "remove", "mondey")
    assert "did you mean monday" in refused(repository, 3, "branch", "add", "x", "--from", "branch:mondey")
    refused(repository, 3, "branch", "add", "x", "--from", "b")
    refused(repository, 2, "branch", "add", "a/b", "--from", "a")
    refused(repository, 2, "branch", "add", "x", "--from", "a", "--quota", "0")
    refused(repository, 2, "branch", "add", "x", "--from", "a", "--quota", "much")
    refused(repository, 2, "branch", "add", "x")
    assert list(branches(repository)) == ["monday"]


def test_a_filesystem_on_a_branch(repository: Path, server: Mounted, tmp_path: Path) -> None:
    """Made, used, checked and trimmed through a loop device; the live volume and the point stay empty."""
    must(repository, "branch", "add", "x", "--from", "a")
    volume = server.mountpoint / "branches/x/db"
    with loop_device(volume) as device:
        sh("mkfs.ext4", "-q", "-E", "nodiscard", device)
        with mounted(device, tmp_path / "fs") as directory:
            (directory / "file").write_bytes(os.urandom(16 * MIB))
            kept = os.urandom(MIB)
            (directory / "kept").write_bytes(kept)
            sh("sync", "-f", directory)
            full = branches(repository)["x"]
            assert int(str(full["used_bytes"])) >= 17 * MIB
            assert full["in_use"] == 1
            line = refused(repository, 5, "branch", "remove", "x")
            assert f"{device} on {volume}" in line
            (directory / "file").unlink()
            sh("sync", "-f", directory)
            sh("fstrim", directory)
            sh("sync", "-f", directory)
            assert int(str(branches(repository)["x"]["used_bytes"])) < 8 * MIB
        sh("e2fsck", "-fn", device)
    must(repository, "branch", "add", "y", "--from", "branch:x")
    with (
        loop_device(server.mountpoint / "branches/y/db") as device,
        mounted(device, tmp_path / "fs") as directory,
    ):
        assert (directory / "kept").read_bytes() == kept
        (directory / "kept").write_bytes(b"changed")
    with (
        loop_device(server.mountpoint / "branches/x/db") as device,
        mounted(device, tmp_path / "fs") as directory,
    ):
        assert (directory / "kept").read_bytes() == kept
    for shown in ("live/db", "snaps/a/db"):
        with opened(server.mountpoint / shown) as fd:
            assert not any(pread_all(fd, 32 * MIB))
    for name in ("x", "y"):
        must(repository, "branch", "remove", name)


@pytest.mark.parametrize("block_bytes", [1024, 4096])
def test_a_filesystem_on_a_full_branch_is_told(
    repository: Path, server: Mounted, tmp_path: Path, block_bytes: int
) -> None:
    """A write that is not aligned to pages is several to the server, of which the first may have room. The kernel answers a short
    write then, which a loop device takes for a whole one: an fsync must not say that all is well."""
    must(repository, "branch", "add", "x", "--from", "a", "--quota", "4M")
    shown = server.mountpoint / "branches/x/db"
    sh("mkfs.ext4", "-q", "-b", str(block_bytes), shown)
    told = pytest.raises(OSError, match=r"No space|Input/output error|Read-only")
    with loop_device(shown) as device, mounted(device, tmp_path / "disk") as disk, told:
        write_and_sync(disk / "much", os.urandom(16 * MIB))
    must(repository, "branch", "remove", "x")


def write_and_sync(path: Path, content: bytes) -> None:
    """The kernel may begin to write before the fsync."""
    with opened(path, WRITE) as fd:
        pwrite_all(fd, content, 0)
        os.fsync(fd)


def test_they_stay_over_restarts(repository: Path, tmp_path: Path) -> None:
    content = os.urandom(MIB)
    with serving(repository, tmp_path / "mount") as server:
        must(repository, "branch", "add", "x", "--from", "a")
        with opened(server.mountpoint / "branches/x/db", os.O_WRONLY) as fd:
            pwrite_all(fd, content, 5 * MIB)
        must(repository, "branch", "add", "y", "--from", "branch:x")
        before = branches(repository)
    assert branches(repository) == before
    with serving(repository, tmp_path / "mount") as server:
        assert branches(repository) == before
        for name in ("x", "y"):
            with opened(server.mountpoint / f"branches/{name}/db") as fd:
                assert pread_all(fd, MIB, 5 * MIB) == content
                assert pread_all(fd, 5 * MIB) == bytes(5 * MIB)


def test_who_has_it_open_is_named(repository: Path, server: Mounted) -> None:
    must(repository, "branch", "add", "x", "--from", "a")
    with opened(server.mountpoint / "branches/x/db", os.O_RDWR):
        line = refused(repository, 5, "branch", "remove", "x")
        assert f"(pid {os.getpid()})" in line
        shown = must_json(repository, "status")["open_files"]
        assert [(file["branch"], file["volume"], file["live"], file["point"]) for file in shown] == [
            ("x", "db", False, None)
        ]
        assert "open:       branches/x/db" in must(repository, "status")
    must(repository, "branch", "remove", "x")
    eventually(lambda: not (server.mountpoint / "branches/x").exists(), "the name is gone")


def test_a_bookmark_under_a_branch_may_go_and_the_point_stays(repository: Path, server: Mounted) -> None:
    must(repository, "branch", "add", "x", "--from", "a")
    assert "its point stays, for branch x" in must(repository, "bookmark", "remove", "a")
    assert (server.mountpoint / "at/@2/db").stat().st_size == 32 * MIB
    events = must_json(repository, "events", "--kind", "bookmark_removed", "--kind", "branch_added")["events"]
    assert [(event["kind"], event["subject"]) for event in events] == [("branch_added", "x"), ("bookmark_removed", "a")]


class TestCheck:
    @pytest.fixture
    def damaged(self, repository: Path, tmp_path: Path) -> Path:
        """Branches ``x`` and ``y`` with a written block each; that of ``x`` has gone bad. Nobody serves."""
        with serving(repository, tmp_path / "mount") as server:
            for name in ("x", "y"):
                must(repository, "branch", "add", name, "--from", "a")
                with opened(server.mountpoint / f"branches/{name}/db", os.O_WRONLY) as fd:
                    pwrite_all(fd, b"w" * 4096, MIB)
        layer = json.loads((repository / "branches/x.json").read_text())["layers"][-1]
        with opened(repository / f"branches/layers/{layer:08x}/00000001.data", os.O_WRONLY) as fd:
            pwrite_all(fd, b"v", 100)
        return repository

    def test_a_bad_block_is_found_and_costs_its_branch(self, damaged: Path, tmp_path: Path) -> None:
        def look() -> None:
            done = json.loads(refused_json(damaged, 6, "check", "--read-data"))
            assert done["branches"] == 2
            (damage,) = done["damages"]
            assert damage["file"].startswith("branches/layers/")
            assert damage["costs"] == ["branch:x/db"]

        assert must_json(damaged, "check")["damages"] == []
        look()
        with serving(damaged, tmp_path / "mount"):
            look()

    def test_a_missing_layer_is_found(self, damaged: Path) -> None:
        layer = json.loads((damaged / "branches/y.json").read_text())["layers"][-1]
        (damaged / f"branches/layers/{layer:08x}").rename(damaged / "aside")
        done = json.loads(refused_json(damaged, 6, "check"))
        assert [(damage["file"], damage["costs"]) for damage in done["damages"]] == [
            ("branches/y.json", ["branch:y/db"])
        ]
        show = json.loads(refused_json(damaged, 6, "branch", "show", "y"))
        assert "missing" in show["problem"]


def refused_json(repository: Path, status: int, *args: str) -> str:
    """What a command prints that tells by its exit status what it found."""
    done = run(repository, *args, "--json")
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def test_what_is_written_to_a_branch_reaches_nothing_else(repository: Path, server: Mounted) -> None:
    must(repository, "branch", "add", "x", "--from", "a")
    before = must_json(repository, "status")["last_seqno"]
    with opened(server.mountpoint / "branches/x/db", os.O_WRONLY) as fd:
        for at in range(0, 32 * MIB, MIB):
            pwrite_all(fd, os.urandom(MIB), at)
        os.fsync(fd)
    after = must_json(repository, "status")
    assert after["last_seqno"] == before
    assert after["branch_bytes"] >= 32 * MIB
    digest = hashlib.sha256((server.mountpoint / "snaps/a/db").read_bytes()).hexdigest()
    assert digest == hashlib.sha256(bytes(32 * MIB)).hexdigest()

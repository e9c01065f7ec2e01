"""Volumes brought back by the command: into files and devices, onto live volumes, from branches; with a server and without."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE

import pytest

from tests.e2e.ground import MIB, refused, serving
from tests.support.control import ask
from tests.support.devices import loop_device, mounted, sh
from tests.support.files import opened, pwrite_all
from tests.support.keeper import Workers
from tests.support.processes import Mounted, child, environment, make_repository, must, must_json, program, run
from tests.support.waiting import eventually
from vsnapfs.core.branch import Branch, BranchVolume
from vsnapfs.core.errors import BusyError, NotFoundError
from vsnapfs.core.state import Progress
from vsnapfs.daemon import restore as restoring
from vsnapfs.daemon.client import connect
from vsnapfs.daemon.restore import Wanted, restore
from vsnapfs.repository.repository import Repository

FAILED, USAGE, DENIED, BUSY, NO_SPACE = 1, 2, 4, 5, 7
BLOCK = 4096
SIZE = 4 * MIB

pytestmark = [pytest.mark.e2e, pytest.mark.requires_root, pytest.mark.requires_fuse, pytest.mark.timeout(600)]


def change(live: Path, offset_bytes: int, content: bytes) -> None:
    with opened(live, os.O_RDWR) as fd:
        pwrite_all(fd, content, offset_bytes)
        os.fsync(fd)


@pytest.fixture
def good() -> bytes:
    return random.Random(1).randbytes(2 * MIB) + bytes(2 * MIB)


@pytest.fixture
def spoiled(mount: Path, repository: Path, good: bytes) -> Path:
    """The mount of a server, ``db`` as it was at bookmark ``good`` and then spoiled at two places."""
    change(mount / "live/db", 0, good[: 2 * MIB])
    must(repository, "bookmark", "add", "good")
    change(mount / "live/db", 10 * BLOCK, b"bad" * BLOCK)
    change(mount / "live/db", 3 * MIB, b"bad")
    return mount


class TestLive:
    def test_it_is_restored_and_undone(self, spoiled: Path, repository: Path, good: bytes) -> None:
        bad = (spoiled / "live/db").read_bytes()
        said = must(repository, "restore", "good", "db", "--live")
        assert "16 KiB written" in said
        undo = said.splitlines()[-1].partition("to undo it: vsnapfs ")[2].split()
        assert undo[0] == "restore"
        assert undo[2:] == ["db", "--live"]
        assert (spoiled / "live/db").read_bytes() == good
        assert (repository / "primary/00000001.img").read_bytes() == good
        assert (spoiled / "snaps" / undo[1] / "db").read_bytes() == bad
        must(repository, *undo)
        assert (spoiled / "live/db").read_bytes() == bad
        assert [event["kind"] for event in must_json(repository, "events", "--kind", "restored")["events"]] == [
            "restored"
        ] * 2

    def test_it_is_refused_while_it_is_open(self, spoiled: Path, repository: Path, good: bytes) -> None:
        with loop_device(spoiled / "live/db") as device:
            line = refused(repository, BUSY, "restore", "good", "db", "--live")
            assert str(device) in line
            assert "--force" in line
        with opened(spoiled / "live/db") as fd:
            assert f"pid {os.getpid()}" in refused(repository, BUSY, "restore", "good", "db", "--live")
            assert not [
                mark for mark in must_json(repository, "bookmark", "list")["bookmarks"] if "before" in mark["name"]
            ]
            assert os.pread(fd, SIZE, 0) != good
            must(repository, "restore", "good", "db", "--live", "--force")
            assert os.pread(fd, SIZE, 0) == good

    def test_a_filesystem_is_as_it_was(self, mount: Path, repository: Path, tmp_path: Path) -> None:
        must(repository, "volume", "resize", "db", "32M")
        sh("mkfs.ext4", "-q", mount / "live/db")
        with mounted(mount / "live/db", tmp_path / "disk", options="loop") as disk:
            (disk / "precious").write_text("kept")
            sh("sync", "-f", disk)
            must(repository, "bookmark", "add", "good")
            (disk / "precious").unlink()
        must(repository, "restore", "good", "db", "--live")
        with mounted(mount / "live/db", tmp_path / "disk", options="loop") as disk:
            assert (disk / "precious").read_text() == "kept"

    def test_without_a_server(self, repository: Path, good: bytes, tmp_path: Path) -> None:
        with serving(repository, tmp_path / "mount") as server:
            change(server.mountpoint / "live/db", 0, good[: 2 * MIB])
            must(repository, "bookmark", "add", "good")
            change(server.mountpoint / "live/db", 0, b"bad")
        done = must_json(repository, "restore", "good", "db", "--live")
        assert done["changed_bytes"] == BLOCK
        assert (repository / "primary/00000001.img").read_bytes() == good

    def test_what_the_mount_shows_is_no_target(self, spoiled: Path, repository: Path) -> None:
        for name in ("live/db", "snaps/good/db", "new"):
            words = ("restore", "good", "db", "--force", "--to", str(spoiled / name))
            assert "lies in the mount" in refused(repository, USAGE, *words)

    def test_a_name_that_is_no_text(self, spoiled: Path, repository: Path, tmp_path: Path, good: bytes) -> None:
        target = os.fsdecode(bytes(tmp_path) + b"/a\xff\nb")
        said = must(repository, "restore", "good", "db", "--to", target)
        assert len(said.splitlines()) == 1
        assert must_json(repository, "restore", "good", "db", "--to", target, "--force")["to"] == target
        assert Path(target).read_bytes() == good

    def test_wrong_usage(self, repository: Path) -> None:
        assert "either --to PATH or --live" in refused(repository, USAGE, "restore", "@1", "db")
        refused(repository, USAGE, "restore", "@1", "db", "--live", "--to", "/tmp/x")
        refused(repository, USAGE, "restore", "@1", "db", "--live", "--resume")
        refused(repository, USAGE, "restore", "@1", "db", "--live", "--no-verify")


class TestAWorkerThatIsKilled:
    """The command waits for the next one, and what it restores is whole; the first bookmark undoes it."""

    SIZE = 48 * MIB
    KILLS = 3

    @pytest.fixture
    def large(self, tmp_path: Path) -> Iterator[Mounted]:
        repository = make_repository(tmp_path / "large", db=self.SIZE)
        with serving(repository, tmp_path / "mount") as server:
            yield server

    def test_in_the_middle(self, large: Mounted) -> None:
        live, rng = large.mountpoint / "live/db", random.Random(5)
        contents = {"good": rng.randbytes(self.SIZE), "bad": rng.randbytes(self.SIZE)}
        for name, content in contents.items():
            change(live, 0, content)
            must(large.repository, "bookmark", "add", name)
        workers, in_the_middle = Workers(large.repository, 5), 0
        for number in range(self.KILLS):
            wanted = ["good", "bad"][number % 2]
            known = bookmarks(large.repository)
            command = [*program(), "restore", wanted, "db", "--live", "--json"]
            with child(command, env=environment(large.repository), stdout=PIPE, stderr=PIPE) as restoring:
                first = eventually(lambda: bookmarks(large.repository) - known, "the bookmark before it")  # noqa: B023
                in_the_middle += restoring.poll() is None
                workers.kill(0)
                told, said = restoring.communicate(timeout=60)
            assert restoring.returncode == 0, said.decode()
            assert {json.loads(told)["before"]["name"]} == {name for name in first if name.startswith("before-")}
            assert live.read_bytes() == contents[wanted]
        assert in_the_middle
        print(f"{workers}, {in_the_middle} in the middle")
        assert must_json(large.repository, "check", "--read-data")["damages"] == []


def bookmarks(repository: Path) -> set[str]:
    """The names of those that a server knows."""
    _, answer = ask(repository, "bookmark_list")
    return {bookmark["name"] for bookmark in answer["result"]["bookmarks"]}


class TestIntoFiles:
    def test_beside_a_server(self, spoiled: Path, repository: Path, good: bytes, tmp_path: Path) -> None:
        target = tmp_path / "db.img"
        told = must(repository, "restore", "good", "db", "--to", target)
        assert told.endswith(f" to {target}, 4 MiB, 2 MiB written\n")
        assert target.read_bytes() == good
        assert target.stat().st_blocks * 512 == 2 * MIB
        assert "exists already; --force" in refused(repository, BUSY, "restore", "good", "db", "--to", target)
        target.write_bytes((spoiled / "live/db").read_bytes())
        done = must_json(repository, "restore", "good", "db", "--to", target, "--force")
        assert (done["written_bytes"], target.read_bytes()) == (4 * BLOCK, good)

    def test_what_is_refused(self, repository: Path, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to("far")
        for to, status in (
            (tmp_path / "link", DENIED),
            (tmp_path, USAGE),
            (repository / "x", USAGE),
            (repository / "primary/00000001.img", USAGE),
        ):
            refused(repository, status, "restore", "@1", "db", "--to", to, "--force")
        with (tmp_path / "disk").open("wb") as disk:
            disk.truncate(MIB)
        with loop_device(tmp_path / "disk") as device:
            refused(repository, NO_SPACE, "restore", "@1", "db", "--to", device, "--force")
            sh("mkfs.ext4", "-q", device)
            with mounted(device, tmp_path / "in-use"):
                refused(repository, BUSY, "restore", "@1", "db", "--to", device, "--force")

    @pytest.mark.parametrize(("kind", "size"), [("xfs", "320M"), ("btrfs", "128M"), ("ext4", "64M")])
    def test_blocks_are_shared_where_the_filesystem_can(self, tmp_path: Path, kind: str, size: str) -> None:
        sh("truncate", f"--size={size}", tmp_path / "disk")
        sh(f"mkfs.{kind}", "-q", tmp_path / "disk")
        with mounted(tmp_path / "disk", tmp_path / "mnt", options="loop") as mnt:
            wanted = self.make(mnt / "repository", mnt / "base")
            done = must_json(mnt / "repository", "restore", "good", "db", "--to", mnt / "db.img")
            assert (mnt / "db.img").read_bytes() == wanted
            if kind == "ext4":
                assert (done["shared_bytes"], done["written_bytes"]) == (0, 5 * MIB + 5 * BLOCK)
            else:
                assert done["shared_bytes"] + done["written_bytes"] == 5 * MIB + 5 * BLOCK
                assert done["written_bytes"] <= 10 * BLOCK
            os.truncate(mnt / "db.img", 0)  # what is shared is the repository's still
            assert must_json(mnt / "repository", "check", "--read-data")["damages"] == []

    def make(self, repository: Path, base: Path) -> bytes:
        """Volume db on a base image, with writes of all sizes over it. Returns its content at bookmark good."""
        content = bytearray(random.Random(3).randbytes(4 * MIB) + bytes(4 * MIB))
        base.write_bytes(content)
        Repository.create(repository)
        with Repository.open(repository, owner=True) as opened_:
            number = opened_.volume_add("db", primary=base).id
            for at, length in ((MIB, 3 * BLOCK), (5 * MIB + 100, 20_000), (6 * MIB, MIB), (3 * MIB - 5, 10)):
                piece = random.Random(at).randbytes(length)
                content[at : at + length] = piece
                opened_.journal.write(number, at, piece)
            opened_.bookmark_add("good")
            opened_.journal.seal()
        return bytes(content)

    def test_an_interrupted_one_is_said_and_goes_on(self, spoiled: Path, repository: Path, tmp_path: Path) -> None:
        """A state as a kill leaves it, which tests/crash makes."""
        target = tmp_path / "db.img"
        (tmp_path / "db.img.vsnapfs-restore").write_text("half")
        assert "remove it" in refused(repository, 6, "restore", "good", "db", "--to", target)


class TestBranches:
    @pytest.fixture
    def branch(self, spoiled: Path, repository: Path) -> Path:
        must(repository, "branch", "add", "fix", "--from", "good")
        path = spoiled / "branches/fix/db"
        change(path, 20 * BLOCK + 5, b"fixed")
        return path

    def test_promoted_and_undone(self, branch: Path, spoiled: Path, repository: Path, good: bytes) -> None:
        live, bad = spoiled / "live/db", (spoiled / "live/db").read_bytes()
        fixed = bytearray(good)
        fixed[20 * BLOCK + 5 : 20 * BLOCK + 10] = b"fixed"
        with opened(live), opened(branch):
            assert f"pid {os.getpid()}" in refused(repository, BUSY, "branch", "promote", "fix")
        with opened(branch):
            assert "branch fix is open" in refused(repository, BUSY, "branch", "promote", "fix")
        said = must(repository, "branch", "promote", "fix", "--bookmark", "fixed").splitlines()
        assert said[0] == "promoted branch fix, 20 KiB written; this is bookmark fixed"
        assert live.read_bytes() == fixed == (spoiled / "snaps/fixed/db").read_bytes() == branch.read_bytes()
        for command in said[2:]:
            must(repository, *command.removeprefix("vsnapfs ").split())
        assert live.read_bytes() == bad
        assert branch.read_bytes() == fixed

    def test_a_branch_that_is_removed_before_it_is_read(
        self, branch: Path, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        volume_of = restoring._volume_of

        def as_it_goes(shown: Branch, name: str) -> BranchVolume:
            must(repository, "branch", "remove", "fix")
            return volume_of(shown, name)

        monkeypatch.setattr(restoring, "_volume_of", as_it_goes)
        with pytest.raises(NotFoundError, match="there is no branch 'fix'"):
            restore(connect(repository), Wanted("branch:fix", "db"), tmp_path / "db.img", lambda _: None)

    @pytest.mark.parametrize("at_bytes", [0, 3 * MIB], ids=["behind it", "before it"])
    def test_who_writes_to_it_while_it_is_read_is_noticed(
        self, branch: Path, repository: Path, tmp_path: Path, at_bytes: int
    ) -> None:
        """Half of one state and half of the next never were; done again, it is what the branch has now."""
        target, wanted, writes = tmp_path / "db.img", Wanted("branch:fix", "db"), [b"one", b"two"]

        def write(_: Progress) -> None:
            if writes:
                change(branch, at_bytes, writes.pop())

        with opened(branch, os.O_RDWR) as fd:
            os.pwrite(fd, b"not on stable storage yet", 2 * MIB)
        eventually(lambda: must_json(repository, "branch", "show", "fix")["in_use"] == 0, "it is closed")
        client = connect(repository)
        with pytest.raises(BusyError, match=r"branch fix was written to meanwhile; stop whoever uses it; .*--resume"):
            restore(client, wanted, target, write)
        assert not target.exists()
        writes.clear()
        eventually(lambda: must_json(repository, "branch", "show", "fix")["in_use"] == 0, "it is closed")
        restore(client, wanted, target, write, resume=True)
        assert target.read_bytes() == branch.read_bytes()
        with opened(branch, os.O_RDWR) as fd:
            os.pwrite(fd, b"nor this", 2 * MIB)
        eventually(lambda: must_json(repository, "branch", "show", "fix")["in_use"] == 0, "it is closed")
        target.unlink()
        restore(client, wanted, target, write)
        writes[:] = [b"more"]
        restore(client, wanted, target, write, force=True)

    def test_into_a_file_and_onto_the_live_volume(
        self, branch: Path, spoiled: Path, repository: Path, tmp_path: Path
    ) -> None:
        fixed = branch.read_bytes()
        must(repository, "restore", "branch:fix", "db", "--to", tmp_path / "db.img")
        assert (tmp_path / "db.img").read_bytes() == fixed
        with opened(branch):
            line = refused(repository, BUSY, "restore", "branch:fix", "db", "--to", tmp_path / "other")
            assert "branch fix is open" in line
        must(repository, "restore", "branch:fix", "db", "--live")
        assert (spoiled / "live/db").read_bytes() == fixed
        assert "did you mean fix" in refused(repository, 3, "restore", "branch:fux", "db", "--live")
        assert "did you mean fix" in refused(repository, 3, "restore", "branch:fux", "db", "--to", tmp_path / "x")
        assert run(repository, "restore", "branch:fix", "dbb", "--to", tmp_path / "x").returncode == 3

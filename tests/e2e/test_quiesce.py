"""Bookmarks with a profile, as people make them: through a server and without, of an ext4 on a live volume; what is refused, and
what is told of it everywhere.

Source: docs/quiesce.md. tests/crash/quiesce.py kills and hangs what can be killed and can hang.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.e2e.ground import MIB, refused, serving
from tests.support.control import ask
from tests.support.devices import loop_device, mounted, sh
from tests.support.processes import environment, make_repository, must, must_json, program, run
from tests.support.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.requires_root, pytest.mark.requires_fuse]

FIFREEZE, FITHAW = 0xC0045877, 0xC0045878
NEEDS_RECOVERY = 4

PROFILES = """
[quiesce.disk]
members = [{{kind = "fsfreeze", name = "files", mountpoint = "{disk}"}}]
[quiesce.app]
members = [{{kind = "command", name = "app", freeze = ["{hook}", "freeze"], thaw = ["{hook}", "thaw"]}}]
[quiesce.both]
deadline = "20s"
[[quiesce.both.members]]
kind = "command"
name = "app"
freeze = ["{hook}", "freeze"]
thaw = ["{hook}", "thaw"]
[[quiesce.both.members]]
kind = "fsfreeze"
name = "files"
mountpoint = "{disk}"
[quiesce.hasty]
deadline = "2s"
members = [{{kind = "command", name = "slow", freeze = ["sleep", "20"], thaw = ["true"]}}]
[quiesce.careless]
deadline = "2s"
fallback = "crash"
members = [{{kind = "command", name = "slow", freeze = ["sleep", "20"], thaw = ["true"]}}]
[quiesce.sloppy]
members = [{{kind = "command", name = "app", freeze = ["true"], thaw = ["sh", "-c", "echo stuck; exit 9"]}}]
[quiesce.ground]
members = [{{kind = "fsfreeze", name = "x", mountpoint = "{outside}"}}]
[quiesce.no_mount]
members = [{{kind = "fsfreeze", name = "x", mountpoint = "{directory}"}}]
[quiesce.memory]
members = [{{kind = "fsfreeze", name = "x", mountpoint = "/dev/shm"}}]
"""
HOOK = """#!/bin/sh
echo $1 >> {directory}/ran
while [ -e {directory}/wait-$1 ]; do sleep 0.02; done
"""


@contextmanager
def thawed(disk: Path) -> Iterator[None]:
    """Whatever happens in the block, the filesystem is not frozen after it."""
    fd = os.open(disk, os.O_RDONLY)
    try:
        yield
    finally:
        with suppress(OSError):
            fcntl.ioctl(fd, FITHAW, 0)
        os.close(fd)


class Ground:
    """A served repository on a filesystem ``outside``, with an ext4 on its live volume at ``disk``."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.directory = directory
        image = directory / "outside.img"
        sh("truncate", "-s", str(96 * MIB), image)
        sh("mkfs.ext4", "-q", image)
        self.outside = stack.enter_context(mounted(image, directory / "outside", options="loop"))
        self.repository = make_repository(self.outside / "repository", db=16 * MIB)
        self.disk = directory / "disk"
        hook = directory / "hook"
        hook.write_text(HOOK.format(directory=directory))
        hook.chmod(0o755)
        with (self.repository / "vsnapfs.toml").open("a") as settings:
            settings.write(PROFILES.format(disk=self.disk, hook=hook, outside=self.outside, directory=directory))
        self.server = stack.enter_context(serving(self.repository, directory / "mount"))
        self.mount = self.server.mountpoint
        live = self.mount / "live" / "db"
        sh("mkfs.ext4", "-q", live)
        device = stack.enter_context(loop_device(live))
        stack.enter_context(mounted(device, self.disk))
        stack.enter_context(thawed(self.disk))

    def add(self, name: str, profile: str) -> subprocess.CompletedProcess[str]:
        return run(self.repository, "--json", "bookmark", "add", name, "--quiesce", profile)

    def names(self) -> list[str]:
        return [bookmark["name"] for bookmark in must_json(self.repository, "bookmark", "list")["bookmarks"]]

    def features(self, name: str) -> int:
        with (self.mount / "snaps" / name / "db").open("rb") as image:
            image.seek(1024 + 96)
            return int.from_bytes(image.read(4), "little")


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    with ExitStack() as stack:
        yield Ground(tmp_path_factory.mktemp("quiesce"), stack)


def test_a_frozen_filesystem_is_whole_at_its_bookmark(ground: Ground, tmp_path: Path) -> None:
    (ground.disk / "file").write_bytes(b"not yet on the disk" * 1000)
    done = ground.add("whole", "disk")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert (made["consistency"], made["profile"]) == ("filesystem", "disk")
    (member,) = made["members"]
    assert (member["name"], member["kind"], member["outcome"], member["error"]) == ("files", "fsfreeze", "frozen", "")
    assert member["prepared"] < member["frozen"] < made["time"] < member["thawed"]
    assert not ground.features("whole") & NEEDS_RECOVERY
    (ground.disk / "file").write_bytes(b"it can be written to again")
    point = ground.mount / "snaps" / "whole" / "db"
    sh("e2fsck", "-fn", point)
    with mounted(point, tmp_path / "old", options="ro,loop"):
        assert (tmp_path / "old" / "file").read_bytes() == b"not yet on the disk" * 1000


def test_without_a_profile_it_is_not(ground: Ground) -> None:
    """What the other tests measure by: a filesystem that is in use needs its journal."""
    (ground.disk / "file").write_bytes(b"x")
    must(ground.repository, "bookmark", "add", "plain")
    assert ground.features("plain") & NEEDS_RECOVERY


def test_what_is_told_of_it(ground: Ground) -> None:
    assert ground.add("told", "both").returncode == 0
    shown = must(ground.repository, "bookmark", "show", "told")
    assert "profile:     both\n" in shown
    assert "consistency: filesystem\n" in shown
    assert "command member app, frozen for " in shown
    assert "fsfreeze member files, frozen for " in shown
    assert "filesystem" in must(ground.repository, "bookmark", "list")
    manifest = json.loads((ground.mount / "snaps" / "told" / "MANIFEST.json").read_text())
    (listed,) = [b for b in must_json(ground.repository, "bookmark", "list")["bookmarks"] if b["name"] == "told"]
    assert manifest["bookmark"]["members"] == listed["members"]
    assert [member["consistency"] for member in listed["members"]] == ["application", "filesystem"]
    attributes = {
        name: os.getxattr(ground.mount / "snaps" / "told", f"user.vsnapfs.{name}")
        for name in ("consistency", "profile")
    }
    assert attributes == {"consistency": b"filesystem", "profile": b"both"}


def test_one_that_runs_out_of_time_makes_nothing(ground: Ground) -> None:
    said = refused(ground.repository, 9, "bookmark", "add", "hasty", "--quiesce", "hasty")
    assert "command member slow" in said
    assert "hasty" not in ground.names()
    assert not (ground.mount / "snaps" / "hasty").exists()


def test_one_that_falls_back_says_so(ground: Ground) -> None:
    done = ground.add("careless", "careless")
    assert done.returncode == 8, done.stderr
    made = json.loads(done.stdout)
    assert made["consistency"] == "crash"
    assert [member["outcome"] for member in made["members"]] == ["timed_out"]
    shown = must(ground.repository, "bookmark", "show", "careless")
    assert "command member slow, timed out: the freeze command sleep did not end in time" in shown
    [told] = must_json(ground.repository, "events", "--kind", "bookmark_fell_back")["events"]
    assert (told["subject"], told["detail"]["profile"]) == ("careless", "careless")
    assert "command member slow: " in told["detail"]["reason"]


def test_a_thaw_that_fails_does_not_make_it_worth_less(ground: Ground) -> None:
    done = ground.add("sloppy", "sloppy")
    assert done.returncode == 8, done.stderr
    made = json.loads(done.stdout)
    assert made["consistency"] == "application"
    assert made["members"][0]["outcome"] == "frozen"
    assert made["members"][0]["error"] == "the thaw command sh failed with status 9: stuck"
    [told] = must_json(ground.repository, "events", "--kind", "still_frozen")["events"]
    said = {"profile": "sloppy", "member": "app", "reason": made["members"][0]["error"]}
    assert (told["subject"], told["detail"]) == ("sloppy", said)


def test_what_the_repository_lies_on_is_not_frozen(ground: Ground) -> None:
    said = refused(ground.repository, 2, "bookmark", "add", "ground", "--quiesce", "ground")
    assert f"{ground.outside} must not be frozen: the repository, {ground.repository}, lies on it" in said
    (ground.outside / "probe").write_text("x")
    assert "ground" not in ground.names()


def test_what_is_no_mount_point(ground: Ground) -> None:
    said = refused(ground.repository, 1, "bookmark", "add", "no", "--quiesce", "no_mount")
    assert f"{ground.directory} is not a mount point" in said


def test_what_cannot_be_frozen(ground: Ground) -> None:
    said = refused(ground.repository, 2, "bookmark", "add", "no", "--quiesce", "memory")
    assert "/dev/shm is tmpfs, which cannot be frozen" in said


def test_what_somebody_else_has_frozen_stays_frozen(ground: Ground) -> None:
    fd = os.open(ground.disk, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, FIFREEZE, 0)
        said = refused(ground.repository, 1, "bookmark", "add", "busy", "--quiesce", "disk")
        assert "is frozen already, by somebody else" in said
        fcntl.ioctl(fd, FITHAW, 0)  # EINVAL if it is not frozen any more
    finally:
        with suppress(OSError):
            fcntl.ioctl(fd, FITHAW, 0)
        os.close(fd)


def test_one_at_a_time_and_status_tells_of_it(ground: Ground) -> None:
    wait = ground.directory / "wait-freeze"
    wait.touch()
    try:
        first = subprocess.Popen(
            [*program(), "bookmark", "add", "first", "--quiesce", "both"],
            env=environment(ground.repository), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        eventually(lambda: (_status(ground.repository) or {}).get("phase") == "freezing", "freezing")
        told = _status(ground.repository)
        assert told is not None
        assert (told["profile"], told["bookmark"], told["deadline_s"]) == ("both", "first", 20.0)
        assert "quiesce:    freezing for bookmark first, profile both" in must(ground.repository, "status")
        said = refused(ground.repository, 5, "bookmark", "add", "second", "--quiesce", "both")
        assert "a quiesce with profile 'both' is under way, for bookmark 'first'" in said
    finally:
        wait.unlink()
    assert first.wait(30) == 0, first.communicate()
    first.communicate()
    assert _status(ground.repository) is None
    assert "first" in ground.names()


def _status(repository: Path) -> dict[str, object] | None:
    status, answer = ask(repository, "status")
    assert status == 200, answer
    found: dict[str, object] | None = answer["result"]["quiesce"]
    return found


def test_who_asks_and_goes_away_leaves_nobody_still(ground: Ground) -> None:
    wait = ground.directory / "wait-freeze"
    wait.touch()
    try:
        asking = subprocess.Popen(
            [*program(), "bookmark", "add", "gone", "--quiesce", "both"],
            env=environment(ground.repository), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        eventually(lambda: (_status(ground.repository) or {}).get("phase") == "freezing", "freezing")
        asking.kill()
        asking.communicate()
        eventually(lambda: _status(ground.repository) is None, "its end")
    finally:
        wait.unlink()
    assert "gone" not in ground.names()
    assert (ground.directory / "ran").read_text().split()[-1] == "thaw"


def test_a_server_that_is_to_end_lets_all_go_first(tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "repository", db=MIB)
    hook = tmp_path / "hook"
    hook.write_text(HOOK.format(directory=tmp_path))
    hook.chmod(0o755)
    (tmp_path / "wait-freeze").touch()
    with (repository / "vsnapfs.toml").open("a") as settings:
        settings.write(PROFILES.format(disk="/d", hook=hook, outside="/o", directory=tmp_path))
    with serving(repository, tmp_path / "mount"):
        asking = subprocess.Popen(
            [*program(), "bookmark", "add", "ended", "--quiesce", "app"],
            env=environment(repository), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        eventually(lambda: (_status(repository) or {}).get("phase") == "freezing", "freezing")
    asking.communicate(timeout=30)
    assert asking.returncode != 0
    assert (tmp_path / "ran").read_text().split() == ["freeze", "thaw"]
    assert must_json(repository, "bookmark", "list")["bookmarks"] == []


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("--quiesce", "disc"), 3, "did you mean disk?"),
        (("--quiesce", "disk", "--at", "-1s"), 2, "leave out --at and --consistency"),
        (("--quiesce", "disk", "--consistency", "application"), 2, "leave out --at and --consistency"),
        (("--quiesce", "disk", "--note", "n" * 5000), 2, "5000 characters"),
    ],
)
def test_what_cannot_be_asked(ground: Ground, words: tuple[str, ...], status: int, said: str) -> None:
    assert said in refused(ground.repository, status, "bookmark", "add", "bad", *words)


def test_a_name_that_is_taken_is_refused_before_anybody_is_still(ground: Ground) -> None:
    must(ground.repository, "bookmark", "add", "taken")
    (ground.directory / "ran").unlink(missing_ok=True)
    assert "taken" in refused(ground.repository, 5, "bookmark", "add", "taken", "--quiesce", "both")
    assert not (ground.directory / "ran").exists()


def test_without_a_server(tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "repository", db=MIB)
    hook = tmp_path / "hook"
    hook.write_text(HOOK.format(directory=tmp_path))
    hook.chmod(0o755)
    with (repository / "vsnapfs.toml").open("a") as settings:
        settings.write(PROFILES.format(disk="/d", hook=hook, outside="/o", directory=tmp_path))
    made = must_json(repository, "bookmark", "add", "alone", "--quiesce", "app")
    assert (made["consistency"], made["profile"]) == ("application", "app")
    assert (tmp_path / "ran").read_text().split() == ["freeze", "thaw"]
    done = run(repository, "bookmark", "add", "late", "--quiesce", "hasty")
    assert (done.returncode, done.stdout) == (9, "")
    assert must_json(repository, "check", "--read-data")["damages"] == []

"""What ordinary users may ask of a server: by a socket of its own for them, without a look at the repository."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.ground import refused, serving
from tests.support.processes import Mounted, environment, make_repository, program, run
from tests.support.waiting import eventually
from vsnapfs.repository.repository import Repository

ALICE, OPERATORS, STRANGER = 4001, 4100, 4002
READING = "-all,+dac_read_search"
"""So that the user may read the interpreter's files wherever they are. It gives no right to connect to anything."""

MIB = 1 << 20
USAGE, NOT_FOUND, NOT_PERMITTED, BUSY = 2, 3, 4, 5

pytestmark = [pytest.mark.e2e, pytest.mark.requires_root, pytest.mark.requires_fuse]


class Ground:
    """A repository that is root's alone, beside a directory for sockets."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.repository = path / "repository"
        self.mountpoint = path / "mount"
        self.socket = path / "run/r.sock"

    def control(self, **lines: str) -> None:
        rights = "".join(f"{right} = {who}\n" for right, who in lines.items())
        (self.repository / "vsnapfs.toml").write_text(f'[control]\nsocket = "{self.socket}"\n{rights}')

    def asks(self, uid: int, *words: str, groups: str = "") -> subprocess.CompletedProcess[str]:
        """A command of a user's, who is in ``groups`` beside their own; by the socket."""
        others = [f"--groups={groups}"] if groups else ["--clear-groups"]
        user = ["setpriv", f"--reuid={uid}", f"--regid={uid}", *others]
        return subprocess.run(
            [*user, f"--inh-caps={READING}", f"--ambient-caps={READING}", *program(), "--socket", self.socket, *words],
            env=environment() | {"PYTHONDONTWRITEBYTECODE": "1"}, cwd="/", capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip

    def plain(self, uid: int, *words: str) -> subprocess.CompletedProcess[str]:
        """Some other program of a user's, who may read what others may."""
        user = ["setpriv", f"--reuid={uid}", f"--regid={uid}", f"--groups={OPERATORS}"]
        return subprocess.run([*user, *words], cwd="/", capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def ground() -> Iterator[Ground]:
    path = Path(tempfile.mkdtemp(prefix="vsnapfs-rights-"))
    path.chmod(0o755)
    (path / "run").mkdir()
    try:
        ground = Ground(path)
        make_repository(ground.repository, db="4M")
        yield ground
    finally:
        shutil.rmtree(path)


@pytest.fixture
def server(ground: Ground) -> Iterator[Mounted]:
    """Operators read, alice makes bookmarks too."""
    ground.control(read=f'["@{OPERATORS}"]', bookmark=f'["{ALICE}"]')
    with serving(ground.repository, ground.mountpoint) as server:
        yield server


def test_a_user_in_the_right_group_lists_bookmarks(ground: Ground, server: Mounted) -> None:
    assert run(ground.repository, "bookmark", "add", "monday").returncode == 0
    done = ground.asks(ALICE, "bookmark", "list", groups=str(OPERATORS))
    assert done.returncode == 0, done.stderr
    assert "monday" in done.stdout
    assert ground.plain(ALICE, "ls", str(ground.repository)).returncode != 0
    assert ground.plain(ALICE, "cat", str(ground.repository / "vsnapfs.toml")).returncode != 0
    for words in (
        ("status",),
        ("volume", "list"),
        ("bookmark", "show", "monday"),
        ("diff", "monday", "-0s"),
        ("check",),
    ):
        done = ground.asks(STRANGER, *words, groups=str(OPERATORS))
        assert done.returncode == 0, done.stderr


def test_rights_are_separate_and_a_refusal_says_which_is_missing(ground: Ground, server: Mounted) -> None:
    assert ground.asks(ALICE, "bookmark", "add", "b").returncode == 0
    for words, right in (
        (("bookmark", "list"), "read"),
        (("bookmark", "remove", "b"), "delete"),
        (("bookmark", "release", "b"), "delete"),
        (("volume", "remove", "db"), "admin"),
        (("import", "x=/etc/passwd", "--bookmark", "c"), "admin"),
        (("check", "--repair"), "admin"),
    ):
        done = ground.asks(ALICE, *words)
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (NOT_PERMITTED, "", 1), done
        assert f"user {ALICE}" in done.stderr
        assert f"[control] {right}" in done.stderr
    logged = [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]
    told = [line for line in logged if line["event"] == "request refused"]
    assert [line["peer_uid"] for line in told] == [ALICE] * 6
    assert all(line["peer_pid"] > 1 for line in told)
    assert [line["peer_uid"] for line in logged if line["event"] == "asked"] == [ALICE]


def test_who_is_not_named_is_told_so(ground: Ground, server: Mounted) -> None:
    done = ground.asks(STRANGER, "bookmark", "list")
    assert (done.returncode, len(done.stderr.splitlines())) == (NOT_PERMITTED, 1), done.stderr
    assert f"user {STRANGER}" in done.stderr
    assert "[control]" in done.stderr
    eventually(lambda: "connection refused" in server.log, "a line in the log")


def test_root_and_the_server_have_all_by_either_socket(ground: Ground, server: Mounted) -> None:
    for words in (("bookmark", "add", "a"), ("bookmark", "remove", "a"), ("volume", "add", "x", "--size", "1M")):
        done = run(None, "--socket", ground.socket, *words)
        assert done.returncode == 0, done.stderr


def test_the_environment_names_the_socket_and_the_command_line_wins(ground: Ground, server: Mounted) -> None:
    env = environment() | {"VSNAPFS_SOCKET": str(ground.socket), "VSNAPFS_REPO": "/nowhere"}

    def asked(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*program(), *words], env=env, capture_output=True, text=True, timeout=60, check=False)

    assert asked("bookmark", "add", "a").returncode == 0
    assert asked("-r", "/nowhere/else", "bookmark", "list").returncode == NOT_FOUND
    assert asked("bookmark", "list", "--socket", "/nowhere.sock").returncode == NOT_FOUND
    both = asked("bookmark", "list", "--socket", str(ground.socket), "-r", str(ground.repository))
    assert (both.returncode, "give one of them" in both.stderr) == (USAGE, True)


def test_what_reads_volumes_needs_the_repository(ground: Ground, server: Mounted) -> None:
    run(ground.repository, "bookmark", "add", "a")
    line = refused(None, USAGE, "--socket", ground.socket, "export", "a", "db", "--to", ground.path / "out")
    assert "give -r REPO" in line
    for words in (("serve", ground.path / "m"), ("mount", ground.path / "m"), ("init",)):
        assert "-r REPO" in refused(None, USAGE, "--socket", ground.socket, *words)
    assert not (ground.path / "out").exists()


def test_the_socket_lasts_as_long_as_its_server(ground: Ground) -> None:
    ground.control(read=f'["@{OPERATORS}"]')
    with serving(ground.repository, ground.mountpoint) as server:
        found = ground.socket.stat()
        assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o660, OPERATORS)
        worker = json.loads(run(ground.repository, "status", "--json").stdout)["worker_pid"]
        os.kill(worker, 9)
        eventually(
            lambda: ground.asks(ALICE, "bookmark", "list", groups=str(OPERATORS)).returncode == 0, "the next worker"
        )
        server.kill()
    eventually(
        lambda: run(None, "--socket", ground.socket, "bookmark", "list").returncode == NOT_FOUND,
        "the end of its worker",
    )
    assert "no server listens" in refused(None, NOT_FOUND, "--socket", ground.socket, "bookmark", "list")
    eventually(lambda: run(ground.repository, "bookmark", "add", "x").returncode == 0, "the lock to be free")
    with serving(ground.repository, ground.mountpoint):
        assert ground.asks(ALICE, "bookmark", "list", groups=str(OPERATORS)).returncode == 0
    assert os.listdir(ground.socket.parent) == []


def test_a_server_does_not_begin_without_its_socket(ground: Ground) -> None:
    (ground.mountpoint).mkdir()
    serve = ("serve", ground.mountpoint)
    ground.control(read='["no-such-user"]')
    assert "no-such-user" in refused(ground.repository, USAGE, *serve)
    ground.control(read='["@0"]')
    ground.socket.write_text("mine")
    assert "no socket" in refused(ground.repository, BUSY, *serve)
    assert ground.socket.read_text() == "mine"
    ground.socket.unlink()
    ground.socket.parent.chmod(0o777)
    assert "others can write" in refused(ground.repository, NOT_PERMITTED, *serve)
    ground.socket.parent.rmdir()
    assert "does not exist" in refused(ground.repository, NOT_FOUND, *serve)
    with Repository.open(ground.repository, owner=False) as repository:
        assert repository.bookmarks() == [], "a command does not need what only a server does"

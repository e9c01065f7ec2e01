"""serve and mount for who is not root: by fusermount3, with a repository and a mount of their own.

The user has one thing that other users have not: it may read the interpreter's files wherever they are. /dev/fuse is open
to all meanwhile, as udev has it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import child, environment, is_mounted, program, unmount
from tests.support.waiting import eventually
from vsnapfs.mounts.table import UNSERVED

pytestmark = [pytest.mark.mount, pytest.mark.requires_root, pytest.mark.requires_fuse]

UID = 65534
END_S_MAX = 30.0
DENIED = 4
MIB = 1 << 20
READING = "-all,+dac_read_search"
AS_USER = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]
MAY_READ = [f"--inh-caps={READING}", f"--ambient-caps={READING}"]
DEVICE = Path("/dev/fuse")


class Ground:
    """A directory of the user's with a repository ``r,1`` (a comma ends an option of a mount) and a place to mount."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.repository = path / "r,1"
        self.mountpoint = path / "m"
        self.log = path / "log"

    def command(self, *words: str | Path) -> list[str]:
        return [*AS_USER, *MAY_READ, *map(str, words)]

    def environment(self) -> dict[str, str]:
        return environment(self.repository) | {"HOME": str(self.path), "PYTHONDONTWRITEBYTECODE": "1"}

    def run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """A program, as the user, whatever its exit status."""
        return subprocess.run(
            self.command(*words),
            env=self.environment(), cwd="/", capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def must(self, *words: str | Path) -> str:
        done = self.run(*words)
        assert done.returncode == 0, f"{words}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def vsnapfs(self, *words: str | Path) -> str:
        return self.must(*program(), *words)

    def python(self, script: str, *words: str | Path) -> str:
        """A program that uses the mount, which root may not."""
        return self.must(program()[0], "-c", script, *words)

    @contextlib.contextmanager
    def serving(self) -> Iterator[subprocess.Popen[bytes]]:
        """The server; ended with the block, if it is still there."""
        command = self.command(*program(), "serve", self.mountpoint)
        said = f"serving {self.repository} at {self.mountpoint}\n"
        before = self.log.read_text().count(said) if self.log.exists() else 0
        with self.log.open("ab") as log, child(command, env=self.environment(), cwd="/", stdout=log, stderr=log) as it:

            def ready() -> bool:
                assert it.poll() is None, self.log.read_text()
                return self.log.read_text().count(said) > before

            eventually(ready, "the server")
            yield it
            if it.poll() is None:
                it.terminate()
                it.wait(END_S_MAX)

    def worker_pid(self) -> int:
        return int(json.loads(self.vsnapfs("status", "--json"))["worker_pid"])


@pytest.fixture
def ground() -> Iterator[Ground]:
    mode = stat.S_IMODE(DEVICE.stat().st_mode)
    path = Path(tempfile.mkdtemp(dir="/var/tmp"))
    ground = Ground(path)
    DEVICE.chmod(0o666)
    try:
        os.chown(path, UID, UID)
        ground.must("mkdir", ground.mountpoint)
        ground.vsnapfs("init")
        ground.vsnapfs("volume", "add", "db", "--size", "256M")
        yield ground
    finally:
        DEVICE.chmod(mode)
        unmount(ground.mountpoint)
        shutil.rmtree(path)


def test_a_volume_from_write_to_bookmark(ground: Ground) -> None:
    with ground.serving() as server:
        ground.python(
            """if True:
            import os, sys
            fd = os.open(sys.argv[1], os.O_RDWR)
            for at in range(0, 4 << 20, 1 << 20):
                assert os.pwrite(fd, bytes([1 + (at >> 20)]) * (1 << 20), at) == 1 << 20
            os.fsync(fd)
            """,
            ground.mountpoint / "live/db",
        )
        ground.vsnapfs("bookmark", "add", "b")
        ground.must("cmp", ground.mountpoint / "live/db", ground.mountpoint / "snaps/b/db")
        server.send_signal(signal.SIGTERM)
        assert server.wait(END_S_MAX) == 0, ground.log.read_text()
    assert not is_mounted(ground.mountpoint)
    primary = next((ground.repository / "primary").iterdir())
    assert primary.read_bytes()[: 4 * MIB] == b"".join(bytes([1 + number]) * MIB for number in range(4))


def test_what_the_mount_allows(ground: Ground) -> None:
    with ground.serving():
        lines = [line.split(" ") for line in Path("/proc/mounts").read_text().splitlines()]
        (shown,) = [line for line in lines if line[1] == str(ground.mountpoint)]
        assert (shown[0], shown[2]) == (str(ground.repository), "fuse.vsnapfs")
        assert {"nosuid", "nodev", "noexec", "default_permissions", f"user_id={UID}"} <= set(shown[3].split(","))
        assert "allow_other" not in shown[3]
        with pytest.raises(OSError, match="Permission denied") as caught:
            os.listdir(ground.mountpoint)
        assert caught.value.errno == errno.EACCES


def test_texts_larger_than_a_socket_takes_at_once(ground: Ground) -> None:
    """A user's socket buffers are small; a diff of many extents is not."""
    with ground.serving():
        size = ground.python(
            """if True:
            import ctypes, json, os, subprocess, sys
            libc = ctypes.CDLL(None)
            fd = os.open(sys.argv[1] + "/live/db", os.O_RDWR)
            subprocess.run([*sys.argv[2:], "bookmark", "add", "a"], check=True, stdout=subprocess.DEVNULL)
            for number in range(20000):
                assert libc.fallocate(fd, 3, ctypes.c_long(number * 8192), ctypes.c_long(4096)) == 0
            subprocess.run([*sys.argv[2:], "bookmark", "add", "b"], check=True, stdout=subprocess.DEVNULL)
            text = os.open(sys.argv[1] + "/diff/a..b/db.json", os.O_RDONLY)
            content = b""
            while part := os.read(text, 16 << 20):
                content += part
            assert len(json.loads(content)["extents"]) == 20000
            print(len(content))
            """,
            ground.mountpoint,
            *program(),
        )
        assert int(size) > MIB


def test_mount_in_the_background_until_fusermount(ground: Ground) -> None:
    pid = json.loads(ground.vsnapfs("mount", ground.mountpoint, "--json"))["pid"]
    try:
        assert ground.must("ls", ground.mountpoint).split() == ["at", "diff", "snaps"]
        ground.must("fusermount3", "-u", ground.mountpoint)
        eventually(lambda: not Path(f"/proc/{pid}").exists(), "its end")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert not is_mounted(ground.mountpoint)


def test_a_busy_mount_ends_in_time(ground: Ground) -> None:
    """No user may abort a connection: its users get errors when the last descriptor of the device is closed."""
    script = """if True:
        import os, sys
        fd = os.open(sys.argv[1], os.O_RDONLY)
        print("open", flush=True)
        sys.stdin.readline()
        try:
            os.pread(fd, 1, 0)
        except OSError as error:
            print(error.errno)
        """
    command = ground.command(program()[0], "-c", script, ground.mountpoint / "live/db")
    with (
        ground.serving() as server,
        child(command, env=ground.environment(), cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as user,
    ):
        assert user.stdout is not None
        assert user.stdin is not None
        with user.stdout as said, user.stdin as tell:
            assert said.readline() == b"open\n"
            server.send_signal(signal.SIGTERM)
            assert server.wait(END_S_MAX) == 0, ground.log.read_text()
            tell.write(b"go\n")
            tell.flush()
            assert int(said.readline()) in UNSERVED
    assert f"pid {user.pid}" in ground.log.read_text()


def test_a_dead_mount_is_taken_away(ground: Ground) -> None:
    with ground.serving() as server:
        worker = ground.worker_pid()
        server.kill()
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
        server.wait()
        eventually(lambda: not Path(f"/proc/{worker}").exists(), "the worker's end")
    assert is_mounted(ground.mountpoint)
    with ground.serving():
        assert "live" in ground.must("ls", ground.mountpoint).split()
        mounts = Path("/proc/mounts").read_text()
        assert mounts.count(f" {ground.mountpoint} ") == 1
    assert "took away the mount" in ground.log.read_text()


def test_others_need_the_leave_of_root(ground: Ground) -> None:
    if "user_allow_other" in Path("/etc/fuse.conf").read_text().split("\n"):
        pytest.skip("this machine allows it")
    done = ground.run(*program(), "mount", ground.mountpoint, "-o", "allow_other", "--foreground")
    assert (done.returncode, done.stderr.count("\n")) == (4, 1), done
    assert "user_allow_other" in done.stderr


def test_without_fusermount(ground: Ground) -> None:
    done = ground.run("env", "PATH=/nonexistent", *program(), "mount", ground.mountpoint, "--foreground")
    assert (done.returncode, done.stderr.count("\n")) == (3, 1), done
    assert "needs fusermount3" in done.stderr


def test_a_hunt_by_a_user_needs_no_mount_of_root(
    ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VSNAPFS_RUN", str(tmp_path / "run"))  # where it may make none, as in /run
    with ground.serving():
        for number in range(4):
            ground.must("sh", "-c", f"echo {number} | dd of={ground.mountpoint}/live/db conv=notrunc status=none")
            ground.vsnapfs("bookmark", "add", f"b{number}")
        words = ("hunt", "--good", "b0", "--bad", "b3", "--json", f"--log={ground.path}/hunt")
        found = json.loads(
            ground.vsnapfs(*words, "--to-write", "--", "sh", "-c", "[ $(head -c1 $1) -lt 2 ]", "sh", "{}")
        )
        assert (found["last_good_bookmark"], found["first_bad_bookmark"]) == ("b1", "b2")
        assert found["write"]["seqno"] == found["first_bad"]["seqno"]
        denied = ground.run(*program(), *words[:-1], f"--log={ground.path}/hunt2", "--mount", "--", "true")
        assert denied.returncode == DENIED, denied.stderr
        assert ground.vsnapfs("hunt", "clean") == "nothing was left\n"
        assert json.loads(ground.vsnapfs("branch", "list", "--json"))["branches"] == []

"""The keeper: what holds the mount while workers come and go, and how it all ends.

That no write is lost, and none made twice, is tested under load in tests/crash/test_worker_kill.py.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.control import ask
from tests.support.files import opened
from tests.support.keeper import Workers, worker_of
from tests.support.processes import (
    Mounted,
    child,
    environment,
    is_mounted,
    make_repository,
    must,
    must_json,
    program,
    run,
)
from tests.support.systemd import StandIn
from tests.support.waiting import eventually

pytestmark = [pytest.mark.mount, pytest.mark.requires_root, pytest.mark.requires_fuse]

MIB = 1 << 20
UNIT = Path(__file__).parents[2] / "docs" / "systemd" / "vsnapfs@.service"
END_S_MAX = 30.0
LOCKED = 5


@pytest.fixture
def repository(memory_path: Path) -> Path:
    return make_repository(memory_path / "repository", db=MIB)


@pytest.fixture
def server(repository: Path, mountpoint: Path) -> Iterator[Mounted]:
    with Mounted(repository, mountpoint) as server:
        yield server


def events(log: str) -> list[str]:
    """What the lines of a log say happened."""
    return [json.loads(line)["event"] for line in log.splitlines() if line.startswith("{")]


WRITES = """
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
sys.stdin.readline()
assert os.pwrite(fd, b"x" * 4096, 0) == 4096
os.fsync(fd)
"""


@contextmanager
def writer(file: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has the file open and writes when ``let_write`` lets it. It must be another: whoever has a file of the
    mount open cannot start a program while no worker is there, since the child closes what it inherits."""
    with child([sys.executable, "-c", WRITES, str(file)], stdin=subprocess.PIPE) as process:
        eventually(lambda: _has_open(process.pid), "the file is open")
        yield process


def let_write(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    with process.stdin as line:
        line.write(b"\n")


def _has_open(pid: int) -> bool:
    return any(os.path.realpath(link).endswith("/live/db") for link in Path(f"/proc/{pid}/fd").iterdir())


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """The process does nothing while the block runs."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def kill_and_wait(pid: int) -> None:
    """SIGKILL a process that is no child of ours, and wait until it has let go of all that it had open."""
    ended = os.pidfd_open(pid)
    try:
        os.kill(pid, signal.SIGKILL)
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        assert poll.poll(END_S_MAX * 1000), "it does not end"
    finally:
        os.close(ended)


def test_status_tells_keeper_and_worker(server: Mounted) -> None:
    status = must_json(server.repository, "status")
    assert (status["pid"], status["keeper"]) == (server.pid, "process")
    assert status["worker_pid"] == worker_of(server.pid)


def test_a_request_waits_while_no_worker_is_there(server: Mounted) -> None:
    """The keeper is stopped, so that there is a time without a worker; it is no crash to anybody."""
    live = server.mountpoint / "live" / "db"
    with writer(live) as process:
        with stopped(server.pid):
            kill_and_wait(worker_of(server.pid))
            let_write(process)
            done = run(server.repository, "volume", "add", "other", "--size", "1M")
            assert done.returncode == LOCKED, "the lock is the keeper's too: nobody takes the repository meanwhile"
            assert f"process {server.pid}" in done.stderr
            assert process.poll() is None
        assert process.wait(END_S_MAX) == 0
    assert "another goes on" in " ".join(events(server.log))
    must(server.repository, "volume", "add", "other", "--size", "1M")
    assert live.read_bytes()[:4096] == b"x" * 4096


def test_what_was_answered_and_not_synced_is_there(server: Mounted) -> None:
    """Past the kernel's cache, so that only the keep can have it."""
    with opened(server.mountpoint / "live" / "db", os.O_RDWR) as fd:
        for number in range(100):
            assert os.pwrite(fd, bytes([number + 1]) * 4096, number * 4096) == 4096
        Workers(server.repository, seed=0).kill(after_s_max=0)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        assert [os.pread(fd, 1, number * 4096)[0] for number in range(100)] == list(range(1, 101))


def test_names_that_are_open_stay_open(server: Mounted) -> None:
    """A directory that is listed half way, files of text, a working directory, and a comparison."""
    for number in range(150):
        must_add(server.repository, f"mark-{number:03}")
    snaps, pair = server.mountpoint / "snaps", server.mountpoint / "diff" / "mark-001..mark-002"
    manifest, diff = snaps / "mark-001" / "MANIFEST.json", pair / "db.json"
    inode = pair.stat().st_ino
    with opened(manifest) as text, opened(diff) as change, os.scandir(snaps) as entries, opened(pair, os.O_PATH) as at:
        content = manifest.read_bytes()
        first = next(entries).name
        Workers(server.repository, seed=0).kill(after_s_max=0)
        for fd in (text, change):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        assert os.pread(text, 1 << 20, 0) == content
        assert json.loads(os.pread(change, 1 << 20, 0))["volume"] == "db"
        assert [first, *(entry.name for entry in entries)] == [*(f"mark-{n:03}" for n in range(150)), "latest"]
        assert os.stat("db.json", dir_fd=at).st_size == len(diff.read_bytes())
        assert os.fstat(at).st_ino == pair.stat().st_ino == inode


def must_add(repository: Path, name: str) -> None:
    status, answer = ask(repository, "bookmark_add", {"name": name})
    assert status == 200, answer


def test_a_reader_s_worker_may_die_too(repository: Path, mountpoint: Path) -> None:
    (repository / "vsnapfs.toml").write_text('[mount]\ntransport = "device"\n')  # by io_uring it would be a new mount
    must(repository, "bookmark", "add", "b")
    with Mounted(repository, mountpoint, verb="mount", options=("--foreground",)) as reader:
        with opened(mountpoint / "snaps" / "b" / "db") as fd:
            before = worker_of(reader.pid)
            os.kill(before, signal.SIGKILL)
            assert os.pread(fd, 4096, 0) == bytes(4096)
            assert os.listdir(mountpoint / "snaps") == ["b", "latest"]
        assert worker_of(reader.pid) != before


def test_when_the_keeper_dies_the_worker_ends_in_order(repository: Path, mountpoint: Path) -> None:
    server = Mounted(repository, mountpoint)
    server.start()
    worker = worker_of(server.pid)
    with opened(mountpoint / "live" / "db", os.O_RDWR) as fd:
        os.pwrite(fd, b"y" * 4096, 0)
    server.kill(leave_mount=True)
    eventually(lambda: not is_mounted(mountpoint), "the mount is gone")
    eventually(lambda: not Path(f"/proc/{worker}").exists(), "the worker is gone")
    assert "ended" in events(server.log)
    with Mounted(repository, mountpoint) as again:
        assert (again.mountpoint / "live" / "db").read_bytes()[:4096] == b"y" * 4096


def test_sigterm_in_the_moment_without_a_worker_loses_nothing(repository: Path, mountpoint: Path) -> None:
    server = Mounted(repository, mountpoint)
    server.start()
    with opened(mountpoint / "live" / "db", os.O_RDWR) as fd:
        os.pwrite(fd, b"z" * 4096, 8192)
    with stopped(server.pid):
        os.kill(worker_of(server.pid), signal.SIGKILL)
        os.kill(server.pid, signal.SIGTERM)
    assert server.stop() == 0
    assert not is_mounted(mountpoint)
    with Mounted(repository, mountpoint) as again:
        assert (again.mountpoint / "live" / "db").read_bytes()[8192:12288] == b"z" * 4096


def test_an_error_of_the_first_worker_is_the_command_s(repository: Path, mountpoint: Path) -> None:
    """Whatever the worker says and ends with, before it was ready."""
    (repository / "vsnapfs.toml").write_text("[mount]\nuids = 3\n")
    done = run(repository, "serve", mountpoint)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "line 2" in done.stderr
    assert not is_mounted(mountpoint)


BREAKS = """\
import json, os, signal, socket, sys
given = json.loads(sys.argv[-1])
line = socket.socket(fileno=given["line"])
if not os.path.exists(sys.argv[-2]):
    open(sys.argv[-2], "w").close()
    line.send(b"ready")
os.kill(os.getpid(), signal.SIGABRT)
"""


def test_workers_that_break_again_and_again_are_given_up(repository: Path, tmp_path: Path) -> None:
    """The keeper's worker is a program that says it is ready, once, and breaks."""
    (tmp_path / "breaks").write_text(
        f"#!/bin/sh\nexec {sys.executable} -c '{BREAKS}' {tmp_path / 'was-ready'} \"$9\"\n"
    )
    (tmp_path / "breaks").chmod(0o700)
    keeper = f"""
import sys
from pathlib import Path
from vsnapfs.core.errors import StoreError
from vsnapfs.daemon import keeper
from vsnapfs.daemon.logs import set_up
set_up("json")
sys.executable = {str(tmp_path / "breaks")!r}
try:
    keeper.keep(Path({str(repository)!r}), ["1", "2", "3", "4"], lambda: print("ready"), live=True, background=False)
except StoreError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", keeper], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["ready", "5 workers in a row broke; the mount is given up; see the log"]
    assert done.stderr.count("killed by SIGABRT") == 5
    must(repository, "bookmark", "add", "the-lock-is-free")


def test_a_kernel_that_sends_nothing_again_gets_a_new_mount(repository: Path, mountpoint: Path, tmp_path: Path) -> None:
    """The keeper is told that it is such a kernel; what is new is mounted, what was open is not connected."""
    forget = (
        "import vsnapfs.daemon.keeper as k; k.resumable = lambda _: False; from vsnapfs.cli.main import main; main()"
    )
    command = [sys.executable, "-c", forget, "serve", str(mountpoint)]
    log = tmp_path / "log"
    with log.open("wb") as said, child(command, env=environment(repository), stdout=said, stderr=said) as keeper:
        eventually(lambda: "serving" in log.read_text() and is_mounted(mountpoint), "it serves")
        assert "this kernel sends no request again" in log.read_text()
        fd = os.open(mountpoint / "live" / "db", os.O_RDWR)
        os.pwrite(fd, b"n" * 4096, 0)
        device = mountpoint.stat().st_dev
        os.kill(worker_of(keeper.pid), signal.SIGKILL)
        eventually(lambda: log.read_text().count('"serving"') == 2, "it serves again")
        with pytest.raises(OSError, match="not connected"):
            os.pwrite(fd, b"o" * 4096, 0)
        with pytest.raises(OSError, match="not connected"):
            os.close(fd)
        assert mountpoint.stat().st_dev != device
        assert (mountpoint / "live" / "db").read_bytes()[:4096] == b"n" * 4096
        keeper.terminate()
        assert keeper.wait(END_S_MAX) == 0
    assert not is_mounted(mountpoint)


class TestSystemd:
    @pytest.fixture
    def unit(self, repository: Path, mountpoint: Path, tmp_path: Path) -> Iterator[StandIn]:
        command = [*program(), "serve", "--keeper", "systemd", str(mountpoint)]
        with StandIn(command, environment(repository), tmp_path) as unit:
            unit.start()
            yield unit

    def test_it_goes_on_where_it_was(self, unit: StandIn, repository: Path, mountpoint: Path) -> None:
        assert unit.stored == {"vsnapfs-device", "vsnapfs-keep", "vsnapfs-lock"}
        assert unit.process is not None
        status = must_json(repository, "status")
        assert (status["keeper"], status["pid"], status["worker_pid"]) == (
            "systemd",
            unit.process.pid,
            unit.process.pid,
        )
        with opened(mountpoint / "live" / "db", os.O_RDWR) as fd:
            os.pwrite(fd, b"a" * 4096, 4096)
        with writer(mountpoint / "live" / "db") as process:
            unit.process.kill()
            unit.process.wait()
            let_write(process)
            assert run(repository, "volume", "add", "other", "--size", "1M").returncode == LOCKED
            unit.start()
            assert process.wait(END_S_MAX) == 0
        with opened(mountpoint / "live" / "db") as fd:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            assert os.pread(fd, 8192, 0) == b"x" * 4096 + b"a" * 4096
        assert must_json(repository, "status")["pid"] == unit.process.pid

    def test_a_clean_end_leaves_nothing_in_the_store(self, unit: StandIn, repository: Path, mountpoint: Path) -> None:
        assert unit.process is not None
        unit.process.terminate()
        assert unit.process.wait(END_S_MAX) == 0, unit.log
        assert unit.stored == set()
        assert "STOPPING=1" in unit.said
        assert not is_mounted(mountpoint)
        must(repository, "bookmark", "add", "the-lock-is-free")

    def test_the_unit_starts_what_is_tested_here(self) -> None:
        """The file is systemd's to read; here is what this program needs of it."""
        lines = [line.partition("=")[::2] for line in UNIT.read_text().splitlines() if "=" in line and line[0] != "#"]
        unit = dict(lines)
        assert unit["ExecStart"].split()[1:] == ["serve", "--keeper", "systemd", "${VSNAPFS_MOUNT}"]
        assert (unit["Type"], unit["NotifyAccess"], unit["Restart"]) == ("notify", "main", "on-failure")
        assert int(unit["FileDescriptorStoreMax"]) >= len(("device", "keep", "lock"))

    def test_without_systemd_it_is_refused(self, repository: Path, mountpoint: Path) -> None:
        done = run(repository, "serve", "--keeper", "systemd", mountpoint)
        assert done.returncode == 2
        assert "systemd did not start this process" in done.stderr

"""Volumes that the kernel reads while the worker is killed: who has one open notices nothing, and nothing is left."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import random
import signal
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.files import data_ranges, opened, pread_all, pwrite_all
from tests.support.keeper import Killing, Workers, kills, worker_of
from tests.support.processes import Mounted, make_repository, must, must_json
from tests.support.waiting import eventually

KILLS = kills(6)
MIB = 1 << 20
SIZE = 3 * MIB
PIDFD_GETFD = 438
BACKING_OPEN = 0x4010E501
BACKING_CLOSE = 0x4004E502
IDS_MAX = 4096
"""The kernel gives numbers in ascending order; no test here has so many opens."""

pytestmark = [
    pytest.mark.mount, pytest.mark.requires_root, pytest.mark.requires_fuse, pytest.mark.timeout(300 + 10 * KILLS)
]  # fmt: skip


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository whose bookmarks ``a`` and ``b`` show what ``content`` says of a volume with holes."""
    path = make_repository(tmp_path / "repository", db=SIZE)
    (path / "vsnapfs.toml").write_text('[mount]\ntransport = "device"\n')  # rings die with their worker
    with Mounted(path, tmp_path / "mnt") as server:
        for name in ("a", "b"):
            with opened(server.mountpoint / "live/db", os.O_WRONLY) as fd:
                pwrite_all(fd, content(name)[:MIB], 0)
                pwrite_all(fd, content(name)[2 * MIB :], 2 * MIB)
            must(path, "bookmark", "add", name)
    return path


def content(name: str) -> bytes:
    rng = random.Random(name)
    return rng.randbytes(MIB) + bytes(MIB) + rng.randbytes(MIB)


def mode_of(path: Path) -> bytes:
    return os.getxattr(path, "user.vsnapfs.data")


def kill_worker(shown: Mounted) -> None:
    """SIGKILL, and wait until the next one answers: for an attribute that is never cached."""
    worker = worker_of(shown.pid)
    os.kill(worker, signal.SIGKILL)
    eventually(lambda: worker_of(shown.pid) != worker, "the next worker")
    assert mode_of(shown.mountpoint / "snaps/a/db")


def wait_for_opens(repository: Path, *, kernel: int, verify: int) -> None:
    """RELEASE comes after close(2) has returned."""

    def counted() -> bool:
        data = must_json(repository, "status")["data"]
        return (data["open_kernel"], data["open_verify"]) == (kernel, verify)

    eventually(counted, f"{kernel} files open in the kernel, {verify} in the plane")


@contextlib.contextmanager
def device_of(pid: int) -> Iterator[int]:
    """The descriptor of /dev/fuse that a process has, in this one."""
    fds = Path(f"/proc/{pid}/fd")
    theirs = next(int(fd.name) for fd in fds.iterdir() if os.readlink(fd) == "/dev/fuse")
    pidfd = os.pidfd_open(pid)
    try:
        fd = ctypes.CDLL(None, use_errno=True).syscall(PIDFD_GETFD, pidfd, theirs, 0)
        assert fd >= 0, os.strerror(ctypes.get_errno())
    finally:
        os.close(pidfd)
    try:
        yield fd
    finally:
        os.close(fd)


def files_left(keeper: int) -> list[int]:
    """Numbers of the kernel's files that are open for the mount; they are closed by being asked for."""
    found = []
    with device_of(keeper) as device:
        for number in range(1, IDS_MAX):
            with contextlib.suppress(FileNotFoundError):
                fcntl.ioctl(device, BACKING_CLOSE, struct.pack("I", number))
                found.append(number)
    return found


def assert_goes_on(shown: Mounted) -> None:
    """``a`` is open in the kernel and ``b`` in the plane: both stay so, and so do those who come later, for three workers."""
    a, b = shown.mountpoint / "snaps/a/db", shown.mountpoint / "snaps/b/db"
    with ExitStack() as stack:
        stack.enter_context(opened(b, os.O_RDONLY | os.O_DIRECT))
        held = stack.enter_context(opened(a))
        assert os.pread(held, 10, 0) == content("a")[:10]
        holes = data_ranges(held)
        assert len(holes) == 2
        for _ in range(3):
            kill_worker(shown)
            assert pread_all(held, SIZE) == content("a")
            assert data_ranges(held) == holes
            for path, mode in ((a, b"kernel"), (b, b"verify")):
                fd = stack.enter_context(opened(path))
                assert mode_of(path) == mode
                assert pread_all(fd, SIZE) == content(path.parent.name)
                assert data_ranges(fd) == holes
            with pytest.raises(OSError, match=str(errno.EINVAL)):
                os.open(a, os.O_RDONLY | os.O_DIRECT)
        os.posix_fadvise(held, 0, 0, os.POSIX_FADV_DONTNEED)
        assert pread_all(held, SIZE) == content("a")
    eventually(lambda: mode_of(b) == b"kernel", "the last one that read through the plane is gone")
    for path in (a, b):
        with opened(path) as fd:
            assert mode_of(path) == b"kernel"
            assert pread_all(fd, SIZE) == content(path.parent.name)


def test_a_mount_without_a_server(repository: Path, tmp_path: Path) -> None:
    with Mounted(repository, tmp_path / "mnt", verb="mount", options=("-f", "--data", "kernel")) as shown:
        assert_goes_on(shown)


def test_a_server(repository: Path, tmp_path: Path) -> None:
    with Mounted(repository, tmp_path / "mnt", options=("--data", "kernel")) as server:
        with opened(server.mountpoint / "live/db"), opened(server.mountpoint / "snaps/a/db"):
            kill_worker(server)
            wait_for_opens(repository, kernel=1, verify=0)
        wait_for_opens(repository, kernel=0, verify=0)
        assert_goes_on(server)
        wait_for_opens(repository, kernel=0, verify=0)
        assert files_left(server.pid) == []


def test_a_file_that_the_dead_worker_was_about_to_use(repository: Path, tmp_path: Path) -> None:
    """The kernel had just given it a number: it is behind those that are known, and is given back."""
    with (
        Mounted(repository, tmp_path / "mnt", options=("--data", "kernel")) as server,
        opened(repository / "vsnapfs.toml") as file,
        opened(server.mountpoint / "snaps/a/db") as held,
    ):
        with device_of(server.pid) as device:
            number = fcntl.ioctl(device, BACKING_OPEN, bytearray(struct.pack("iIQ", file, 0, 0)))
            assert number > 0
            kill_worker(server)
            with pytest.raises(FileNotFoundError):
                fcntl.ioctl(device, BACKING_CLOSE, struct.pack("I", number))
        assert pread_all(held, SIZE) == content("a")


def test_opens_at_every_moment(repository: Path, tmp_path: Path) -> None:
    """Files are opened, read and closed all the time: no error, no wrong byte, no file that stays open."""
    with Mounted(repository, tmp_path / "mnt", options=("--data", "kernel")) as server:
        workers = Workers(repository, seed=4)
        with Killing(workers, KILLS) as killing:
            while killing.going:
                for name in ("a", "b"):
                    with opened(server.mountpoint / "snaps" / name / "db") as fd:
                        assert os.pread(fd, 100_000, 2 * MIB) == content(name)[2 * MIB :][:100_000]
        wait_for_opens(repository, kernel=0, verify=0)
        assert must_json(repository, "status")["open_files"] == []
        assert files_left(server.pid) == []
    print(workers)

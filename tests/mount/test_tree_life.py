"""How a mount begins and ends."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
from structlog.testing import capture_logs

from tests.mount.conftest import END_S, MIB, Showing, Shown
from tests.support.devices import loop_device
from tests.support.processes import child, is_mounted, umount
from tests.support.waiting import eventually
from vsnapfs.core.errors import BusyError
from vsnapfs.mounts.holders import holders
from vsnapfs.mounts.table import mounts
from vsnapfs.repository.repository import Repository
from vsnapfs.tree.fuse import Connection, Mount, mount
from vsnapfs.tree.mountpoint import prepare

pytestmark = [pytest.mark.mount, pytest.mark.requires_fuse]


def test_umount_by_anybody_ends_it(served: Shown) -> None:
    umount(served.path)
    served.join()
    assert not is_mounted(served.path)
    assert os.listdir(served.path) == []


async def umount_at_once(shown: Mount) -> None:
    await trio.run_process(["umount", str(shown.mountpoint)])


def test_an_umount_before_it_answered_ends_it(
    repository: Repository, mountpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Mount, "_answered", umount_at_once)
    with Shown(repository, mountpoint, live=True) as shown:
        shown.join()
    assert os.listdir(mountpoint) == []


def test_an_umount_while_the_mount_looks_at_itself_ends_it(
    repository: Repository, mountpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run_process(command: list[str], **options: object) -> subprocess.CompletedProcess[bytes]:
        await run(["umount", str(mountpoint)])
        return subprocess.CompletedProcess(command, returncode=1)

    run = trio.run_process
    monkeypatch.setattr(trio, "run_process", run_process)
    with Shown(repository, mountpoint, live=True) as shown:
        shown.join()
    assert os.listdir(mountpoint) == []


def test_stop_ends_it(served: Shown) -> None:
    served.stop()
    assert not is_mounted(served.path)


def test_a_process_mounts_again_after_its_mount_ended(served: Shown) -> None:
    for _ in range(3):
        served.stop()
        served = Shown(served.repository, served.path, live=True)
        served.__enter__()
        assert os.path.exists(served / "live/db")
    served.stop()


def test_descriptors_are_given_back(served: Shown) -> None:
    served.stop()
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with Shown(served.repository, served.path, live=True) as shown, (shown / "live/db").open("rb") as file:
            file.read(1)
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_one_process_has_one_mount(served: Shown, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    second = Mount(served.repository, other, Connection(), live=True, allow_other=False, uid=0, gid=0)
    with pytest.raises(BusyError, match="this process has a mount already"):
        trio.run(second.run)
    assert os.listdir(served / "live")


def test_what_is_shown_already_is_not_mounted_over(served: Shown) -> None:
    with pytest.raises(BusyError, match=f"{served.path} already shows {served.repository.path}"):
        prepare(served.path, served.repository.path)


def test_a_busy_mount_is_taken_away_and_its_users_are_named(served: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mount, "BUSY_GRACE_S", 0.2)
    served.repository.bookmark_add("a")
    with (served / "snaps/a/db").open("rb") as file, child(["sleep", "60"], stdin=file) as holder:
        file.close()
        with capture_logs() as lines:
            served.stop()
    (busy,) = lines
    assert [text for text in busy["kept_by"] if f"pid {holder.pid}" in text and "snaps/a/db" in text]
    assert not is_mounted(served.path)


def test_whoever_keeps_a_mount_busy_is_named(served: Shown) -> None:
    served.repository.bookmark_add("a")
    volume = served / "snaps/a/db"
    assert holders(served.path) == []
    with child(["sh", "-c", 'cd "$0" && exec sleep 60', str(served / "snaps")]) as worker:
        eventually(lambda: holders(served.path) == [f"sleep (pid {worker.pid}, cwd)"], "the worker is named")
    eventually(lambda: holders(served.path) == [], "nobody is named")
    with loop_device(volume, read_only=True) as device:
        assert holders(served.path) == [f"{device} on {volume}"]
    with mapped(volume):
        assert [text for text in holders(served.path) if f"pid {os.getpid()}, mapped file" in text]
    assert holders(served.path) == []


@contextmanager
def mapped(path: Path) -> Iterator[None]:
    """A page of a file mapped and the file closed; Python's own mmap keeps a descriptor."""
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    with path.open("rb") as file:
        start = libc.mmap(None, ctypes.c_size_t(4096), mmap.PROT_READ, mmap.MAP_SHARED, file.fileno(), ctypes.c_long(0))
    try:
        yield
    finally:
        libc.munmap(ctypes.c_void_p(start), ctypes.c_size_t(4096))


def test_a_busy_mount_ends_with_its_last_user(served: Shown) -> None:
    served.repository.bookmark_add("a")
    with (served / "snaps/a/db").open("rb", buffering=0) as file:
        served_until = os.pread(file.fileno(), 4096, 0)
        subprocess.run(["umount", "-l", str(served.path)], check=True)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert os.pread(file.fileno(), 4096, 0) == served_until
    served.join()


def test_stop_ends_a_mount_whose_name_is_gone_already(served: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mount, "BUSY_GRACE_S", 0.2)
    fd = os.open(served / "live/db", os.O_RDONLY)
    with capture_logs() as lines:
        subprocess.run(["umount", "-l", str(served.path)], check=True)
        served.stop()
    assert lines == []
    with pytest.raises(OSError, match=os.strerror(errno.ENOTCONN)):
        os.close(fd)


@pytest.mark.parametrize("verb", ["serve", "mount"])
def test_umount_ends_the_process(repository: Repository, mountpoint: Path, start: Showing, verb: str) -> None:
    repository.close()
    process = start(repository.path, verb)
    umount(mountpoint)
    assert process.wait(END_S) == 0


@pytest.mark.parametrize("verb", ["serve", "mount"])
def test_a_signal_unmounts_and_ends_the_process(
    repository: Repository, mountpoint: Path, start: Showing, verb: str
) -> None:
    repository.close()
    process = start(repository.path, verb)
    process.send_signal(signal.SIGTERM)
    assert process.wait(END_S) == 0
    assert not is_mounted(mountpoint)


@pytest.mark.parametrize("verb", ["serve", "mount"])
def test_after_kill_9_starting_again_is_all(
    repository: Repository, mountpoint: Path, start: Showing, verb: str
) -> None:
    repository.close()
    start(repository.path, verb).kill()
    eventually(lambda: is_dead(mountpoint), "a dead mount")
    start(repository.path, verb)
    assert (mountpoint / "at/@2/db").stat().st_size == 4 * MIB
    assert len([entry for entry in mounts() if entry.path == str(mountpoint)]) == 1


def is_dead(path: Path) -> bool:
    try:
        os.stat(path)
    except OSError as error:
        return error.errno == errno.ENOTCONN
    return False


def test_a_dead_mount_of_another_repository_is_left(
    repository: Repository, mountpoint: Path, start: Showing, tmp_path: Path
) -> None:
    repository.close()
    start(repository.path, "mount").kill()
    eventually(lambda: is_dead(mountpoint), "a dead mount")
    with pytest.raises(BusyError, match=f"umount -l {mountpoint}"):
        prepare(mountpoint, tmp_path / "another")
    assert is_mounted(mountpoint)

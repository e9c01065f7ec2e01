"""The data plane between the kernel and pyfuse3: real handlers, real programs, a volume in memory, no journal.

What C alone can show is in tests/native/test_plane.c. Source: native/include/plane.h.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import mmap
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.mount import plane_server
from tests.mount.plane_server import TEXT
from tests.support.devices import loop_device, mounted, sh
from tests.support.processes import child, is_mounted, umount, unmount
from tests.support.waiting import eventually
from vsnapfs.mounts.table import UNSERVED

ROOT = Path(__file__).parents[2]
NATIVE = ROOT / "native"
MIB = 1 << 20
SIZE_BYTES = 48 * MIB
END_S = 30.0

pytestmark = pytest.mark.requires_fuse


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plane and plane_library.c as one shared object."""
    path = tmp_path_factory.mktemp("plane") / "libplane.so"
    sources = [
        *sorted((NATIVE / "src").glob("plane*.c")),
        NATIVE / "src/keep.c",
        NATIVE / "src/status.c",
        ROOT / "tests/mount/plane_library.c",
    ]
    include = [f"-I{NATIVE / 'include'}", f"-I{NATIVE / 'src'}", f"-I{ROOT / 'tests/native'}"]
    flags = ["-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    sh("gcc", *flags, *include, "-o", path, *sources, "-lpthread")
    return path


class Served:
    """A running plane_server.py. ``path``: its mount point; ``volume``: the file of SIZE_BYTES bytes below it."""

    def __init__(self, process: subprocess.Popen[bytes], path: Path, transport: str) -> None:
        self.process = process
        self.transport = transport
        self.path = path
        self.volume = path / "vol"

    def counts(self) -> dict[str, int]:
        """Requests by name, and what the volume has counted."""
        counts: dict[str, int] = json.loads((self.path / "counts").read_bytes())
        return counts

    def grown(self, before: dict[str, int], name: str) -> int:
        return self.counts()[name] - before[name]

    def ends(self) -> int:
        """Wait for the end; returns the exit status."""
        return self.process.wait(END_S)


@pytest.fixture
def served(library: Path, tmp_path: Path, transport: str) -> Iterator[Served]:
    path = tmp_path / "mnt"
    path.mkdir()
    command = [sys.executable, "-m", plane_server.__name__, str(library), str(path), str(SIZE_BYTES), transport]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        eventually(lambda: is_mounted(path) or process.poll() is not None, "the mount")
        assert process.poll() is None
        assert (path / "text").exists()  # an answer: from here on it also listens to signals
        yield Served(process, path, transport)
    finally:
        process.kill()
        process.wait()
        unmount(path)


@contextlib.contextmanager
def opened(path: Path, flags: int = os.O_RDWR) -> Iterator[int]:
    fd = os.open(path, flags)
    try:
        yield fd
    finally:
        try:
            os.close(fd)
        except OSError as error:
            if error.errno not in UNSERVED:  # the flush of a close when the server has gone
                raise


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# ---- bytes ----


def test_names_and_bytes_side_by_side(served: Served) -> None:
    assert sorted(os.listdir(served.path)) == ["counts", "text", "vol"]
    assert (served.path / "text").read_bytes() == TEXT
    with opened(served.volume) as fd:
        assert os.pwrite(fd, b"abc" * 100_000, 12345) == 300_000
        assert os.pread(fd, 300_000, 12345) == b"abc" * 100_000
        assert os.pread(fd, 100, SIZE_BYTES - 10) == bytes(10)
        assert os.pwrite(fd, b"0123456789", SIZE_BYTES - 3) == 3
        with pytest.raises(OSError, match="No space"):
            os.pwrite(fd, b"x", SIZE_BYTES)
    assert served.counts()["transport"] == plane_server.TRANSPORTS[served.transport]
    assert served.counts()["releases"] <= 1
    eventually(lambda: served.counts()["releases"] == 1, "the release")


def test_no_read_of_a_volume_reaches_python(served: Served) -> None:
    """The Python handler answers EBADF for a volume, so a forwarded READ would be seen."""
    with opened(served.volume, os.O_RDONLY | os.O_DIRECT) as fd, mmap.mmap(-1, MIB) as buffer:
        for offset in range(0, SIZE_BYTES, MIB):
            assert os.preadv(fd, [buffer], offset) == MIB
    assert served.counts()["reads"] == SIZE_BYTES // MIB


@pytest.mark.parametrize(("direct", "backlog"), [(0, 16), (1, 1)])
def test_eight_jobs_verify_what_they_wrote(served: Served, direct: int, backlog: int) -> None:
    size = SIZE_BYTES // 8
    sh(
        "fio", "--name=verify", f"--filename={served.volume}", "--rw=randwrite", "--bs=16k", "--ioengine=psync",
        "--numjobs=8", "--thread", f"--size={size}", f"--offset_increment={size}", "--allow_file_create=0",
        "--verify=crc32c", "--verify_state_save=0", "--verify_fatal=1", "--do_verify=1", f"--verify_backlog={backlog}", "--fsync=16",
        "--randseed=7", f"--direct={direct}",
    )  # fmt: skip
    assert served.counts()["syncs"] >= 8 * 24
    assert served.counts()["writes"] >= SIZE_BYTES // 16384


# ---- durability ----


def test_every_fsync_is_seen(served: Served) -> None:
    calls = 25
    with opened(served.volume) as fd:
        before = served.counts()
        for i in range(calls):
            os.pwrite(fd, b"x", i)
            os.fsync(fd)
            os.fdatasync(fd)
        assert served.grown(before, "FSYNC") >= 2 * calls
        assert served.grown(before, "syncs") >= 2 * calls


@pytest.mark.parametrize("flag", [os.O_SYNC, os.O_DSYNC], ids=["O_SYNC", "O_DSYNC"])
def test_every_synchronous_write_is_durable(served: Served, flag: int) -> None:
    with opened(served.volume, os.O_RDWR | flag) as fd:
        before = served.counts()
        for i in range(10):
            os.pwrite(fd, b"x" * 5000, 5000 * i)
        assert served.grown(before, "durable_writes") >= 10


def test_msync_writes_and_syncs(served: Served) -> None:
    with opened(served.volume) as fd, mmap.mmap(fd, MIB) as memory:
        for i in range(5):
            before = served.counts()
            memory[i * 8192 : i * 8192 + 5] = b"hello"
            memory.flush()
            assert served.grown(before, "syncs") >= 1
            assert served.grown(before, "writes") >= 1
        with opened(served.volume, os.O_RDONLY | os.O_DIRECT) as direct, mmap.mmap(-1, 4096) as buffer:
            os.preadv(direct, [buffer], 8192)
            assert buffer[:5] == b"hello"


def test_ext4_on_a_loop_device(served: Served, tmp_path: Path) -> None:
    content = os.urandom(5 * MIB)
    before = served.counts()
    with loop_device(served.volume) as device:
        sh("mkfs.ext4", "-q", "-E", "nodiscard", device)
        with mounted(device, tmp_path / "fs") as directory:
            (directory / "file").write_bytes(content)
            with opened(directory / "file") as fd:
                for _ in range(5):
                    os.fsync(fd)
                    os.pwrite(fd, content[:100], 0)
            assert served.grown(before, "FSYNC") >= 5
            (directory / "gone").write_bytes(bytes(MIB))
            (directory / "gone").unlink()
            os.sync()
            zeroed = served.counts()["zeroed_bytes"]
            sh("fstrim", directory)
            assert served.counts()["zeroed_bytes"] > zeroed + MIB
            assert (directory / "file").read_bytes() == content
        sh("e2fsck", "-fn", device)
    with (
        loop_device(served.volume, read_only=True) as device,
        mounted(device, tmp_path / "fs", options="ro") as directory,
    ):
        assert (directory / "file").read_bytes() == content


# ---- holes ----


@pytest.fixture
def sparse(served: Served) -> Served:
    """The volume with three runs of data: somewhere, across a block's end, and its last bytes."""
    with opened(served.volume) as fd:
        os.pwrite(fd, os.urandom(70_000), MIB)
        os.pwrite(fd, b"across", 20 * MIB - 3)
        os.pwrite(fd, b"end", SIZE_BYTES - 3)
    return served


def test_copies_keep_content_and_holes(sparse: Served, tmp_path: Path) -> None:
    wanted = sha256(sparse.volume)
    sh("tar", "-C", sparse.path, "-Scf", tmp_path / "s.tar", "vol", "text")
    assert (tmp_path / "s.tar").stat().st_size < MIB
    sh("tar", "-C", sparse.path, "-cf", tmp_path / "plain.tar", "vol", "text")
    for archive in ("s.tar", "plain.tar"):
        out = tmp_path / archive.split(".")[0]
        out.mkdir()
        sh("tar", "-C", out, "-xf", tmp_path / archive)
        assert sha256(out / "vol") == wanted
        assert (out / "text").read_bytes() == TEXT
    for mode in ("always", "auto", "never"):
        sh("cp", f"--sparse={mode}", sparse.volume, sparse.path / "text", tmp_path)
        assert sha256(tmp_path / "vol") == wanted
        assert (tmp_path / "text").read_bytes() == TEXT
    sh("dd", f"if={sparse.volume}", f"of={tmp_path / 'dd'}", "bs=1M", "conv=sparse", "status=none")
    assert sha256(tmp_path / "dd") == wanted


def test_data_and_holes_of_a_python_served_file(sparse: Served) -> None:
    """All data up to its end, as of any file that knows no holes; the volume's own holes are still found after."""
    with opened(sparse.path / "text", os.O_RDONLY) as fd:
        assert os.lseek(fd, 0, os.SEEK_DATA) == 0
        assert os.lseek(fd, 7, os.SEEK_DATA) == 7
        assert os.lseek(fd, 7, os.SEEK_HOLE) == len(TEXT)
        for whence in (os.SEEK_DATA, os.SEEK_HOLE):
            with pytest.raises(OSError, match="No such device or address") as raised:
                os.lseek(fd, len(TEXT), whence)
            assert raised.value.errno == errno.ENXIO
    with opened(sparse.volume, os.O_RDONLY) as fd:
        assert os.lseek(fd, 0, os.SEEK_DATA) == MIB
        assert os.lseek(fd, 2 * MIB, os.SEEK_DATA) == 20 * MIB - 4096


def test_what_pyfuse3_lacks_does_not_disturb(served: Served) -> None:
    """copy_file_range, ioctl and poll get ENOSYS from libfuse, which the kernel takes on itself."""
    with opened(served.path / "text", os.O_RDONLY) as source, opened(served.volume) as target:
        assert os.copy_file_range(source, target, 1000, 0, MIB) == 1000
        assert os.pread(target, 1000, MIB) == TEXT[:1000]
        before = served.counts()
        os.fsync(target)
        assert served.grown(before, "FSYNC") == 1


# ---- names ----


def test_an_invalidated_name_is_looked_up_again(served: Served) -> None:
    """Absent is cached for minutes; the notification goes through the plane."""
    assert not (served.path / "born").exists()
    served.process.send_signal(signal.SIGUSR1)
    eventually((served.path / "born").exists, "the new name")


# ---- the end ----


def test_umount_ends_the_server(served: Served) -> None:
    assert (served.path / "text").exists()
    umount(served.path)
    assert served.ends() == 0


def test_sigterm_ends_the_server_of_an_idle_mount(served: Served) -> None:
    served.process.terminate()
    assert served.ends() == 0
    assert not is_mounted(served.path)


def test_sigterm_ends_the_server_of_a_busy_mount(served: Served) -> None:
    with opened(served.volume) as fd:
        os.pwrite(fd, b"kept", 0)
        served.process.terminate()
        assert served.ends() == 0
        assert not is_mounted(served.path)
        with pytest.raises(OSError, match="not connected") as raised:
            os.pread(fd, 4, MIB)
        assert raised.value.errno == errno.ENOTCONN


def test_sigterm_ends_the_server_under_load(served: Served) -> None:
    load = [
        "fio", "--name=load", f"--filename={served.volume}", "--rw=randrw", "--bs=64k", "--ioengine=psync",
        "--numjobs=4", "--thread", "--time_based", "--runtime=60", f"--size={SIZE_BYTES}", "--allow_file_create=0",
        "--direct=1",
    ]  # fmt: skip
    with subprocess.Popen(load, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as fio:
        try:
            eventually(lambda: served.counts()["writes"] > 100, "the load")
            served.process.terminate()
            assert served.ends() == 0
            assert fio.wait(END_S) != 0
        finally:
            fio.kill()


def is_not_connected(attempt: Callable[[], object]) -> bool:
    """Does it fail so? With io_uring the kernel ends the connection in the background: what comes before is aborted, or
    cancelled when the dying server's ring had it."""
    try:
        attempt()
    except OSError as error:
        if error.errno not in UNSERVED:
            raise
        return error.errno == errno.ENOTCONN
    raise AssertionError("a dead server answers")


def test_a_killed_server_is_not_connected_and_can_be_unmounted(served: Served) -> None:
    with opened(served.volume) as fd:
        served.process.kill()
        served.process.wait()
        eventually(lambda: is_not_connected(lambda: os.pread(fd, 1, 0)), "the end of the connection")
        eventually(lambda: is_not_connected(lambda: os.listdir(served.path)), "the same for names")
    umount(served.path)
    assert not is_mounted(served.path)


def test_a_server_killed_under_load_leaves_nobody_waiting(served: Served) -> None:
    """Bytes and names, all under way when it dies: every process gets an error and ends."""
    jobs = [["dd", "if=/dev/zero", f"of={served.volume}", "bs=64k", "conv=notrunc", "oflag=dsync", "status=none"]] * 4
    jobs += [["sh", "-c", f"while cat {served.volume} >/dev/null && ! ls {served.path}/absent; do :; done; exit 1"]] * 4
    with contextlib.ExitStack() as stack:
        running = [
            stack.enter_context(child(job, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)) for job in jobs
        ]
        eventually(lambda: served.counts()["durable_writes"] > 100, "the load")
        served.process.kill()
        served.process.wait()
        for process in running:
            assert process.wait(END_S) != 0
    umount(served.path)
    assert not is_mounted(served.path)


def test_only_root_may_mount(library: Path) -> None:
    """As nobody, who can get nothing mounted, so the path may be any that is there."""
    code = (
        "import os, sys; from tests.mount import plane_server\n"
        "lib = plane_server.load(sys.argv[1])\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try: plane_server.start(lib, '/')\n"
        "except OSError as error: sys.exit(error.errno)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(library)], cwd=ROOT, check=False)
    assert done.returncode == errno.EPERM

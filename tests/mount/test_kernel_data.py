"""Volumes at points that the kernel reads by itself: the same bytes, who decides, what it falls back to, and that nothing is left."""

from __future__ import annotations

import errno
import fcntl
import json
import mmap
import os
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.mount.conftest import MIB, Shown
from tests.support.devices import sh
from tests.support.files import data_ranges, opened, pread_all, punch, pwrite_all
from tests.support.processes import Mounted, make_repository, must, must_json, run
from tests.support.volumes import discard, flip_bit, put
from tests.support.waiting import eventually
from vsnapfs.core.model import DataMode
from vsnapfs.repository.repository import Repository
from vsnapfs.tree.data_mode import DataRules

pytestmark = [pytest.mark.mount, pytest.mark.requires_fuse]

MODES: tuple[DataMode, ...] = ("verify", "kernel", "auto")
KERNEL = DataRules(mode="kernel")
SIZE = 4 * MIB + 1536


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[Repository]:
    """A repository on a disk, with a thin volume ``db`` whose size is no multiple of 4096; small segments."""
    path = tmp_path / "repository"
    Repository.create(path)
    (path / "vsnapfs.toml").write_text('[journal]\nsegment_size = "1M"\n')
    with Repository.open(path, owner=True) as repository:
        repository.volume_add("db", size_bytes=SIZE)
        yield repository


@contextmanager
def shown(repository: Repository, mountpoint: Path, data: DataRules = KERNEL) -> Iterator[Shown]:
    """Served, live volumes too."""
    with Shown(repository, mountpoint, live=True, data=data) as served:
        assert served.data().kernel == data.asks_kernel, served.data().why_not
        yield served


def mode_of(path: Path) -> tuple[bytes, bytes]:
    return os.getxattr(path, "user.vsnapfs.data"), os.getxattr(path, "user.vsnapfs.verified")


IN_KERNEL = (b"kernel", b"at-open")
IN_PLANE = (b"verify", b"checksums")


def history(repository: Repository, name: str, rounds: int, content: bytearray) -> list[bytes]:
    """Writes and discards, aligned and not, a bookmark ``NAME0``, ``NAME1`` … after each round; returns what each showed."""
    rng = random.Random(20261125)
    shots = []
    for number in range(rounds):
        for _ in range(40):
            length = min(int(2 ** rng.uniform(0, 19)), len(content))
            offset = rng.randrange(len(content) - length + 1)
            if rng.random() < 0.5:
                offset -= offset % 4096
            if rng.random() < 0.2:
                discard(repository, name, offset, length)
                content[offset : offset + length] = bytes(length)
            else:
                written = rng.randbytes(length)
                put(repository, name, offset, written)
                content[offset : offset + length] = written
        repository.bookmark_add(f"{name}{number}")
        shots.append(bytes(content))
    return shots


def assert_reads(path: Path, want: bytes) -> list[tuple[int, int]]:
    """Whole, in random pieces, and by a mapping to the end of its last page. Returns where it says that data are."""
    rng = random.Random(7)
    with opened(path) as fd:
        assert os.fstat(fd).st_size == len(want)
        with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as mapped:
            assert mapped[:] == want
        for _ in range(50):
            offset, length = rng.randrange(len(want)), rng.randrange(1, 100_000)
            assert os.pread(fd, length, offset) == want[offset : offset + length]
        assert pread_all(fd, len(want) + 1) == want
        with pytest.raises(OSError, match=str(errno.ENXIO)):
            os.lseek(fd, len(want), os.SEEK_DATA)
        return data_ranges(fd)


@pytest.mark.parametrize("mode", MODES)
def test_every_byte_and_every_hole(on_disk: Repository, mountpoint: Path, mode: DataMode) -> None:
    shots = history(on_disk, "db", 6, bytearray(SIZE))
    with shown(on_disk, mountpoint, DataRules(mode=mode)) as served:
        for number, want in enumerate(shots):
            path = served / f"snaps/db{number}/db"
            ranges = assert_reads(path, want)
            assert mode_of(path) == (IN_PLANE if mode == "verify" else IN_KERNEL)
            with on_disk.view("db", on_disk.resolve(f"db{number}")) as view:
                runs = [run for run in view.runs() if run.kind.name == "DATA"]
            assert ranges == [(run.offset_bytes, run.length_bytes) for run in runs]


def test_volumes_over_an_image_that_shrink_and_grow(on_disk: Repository, mountpoint: Path, tmp_path: Path) -> None:
    """Whose image ends inside a block, and has holes."""
    first = bytearray(random.Random(3).randbytes(2 * MIB + 512))
    first[MIB : MIB + 65536] = bytes(65536)
    (tmp_path / "image").write_bytes(first)
    on_disk.volume_add("v", primary=tmp_path / "image")
    on_disk.bookmark_add("whole")
    whole = bytes(first)
    shots = history(on_disk, "v", 3, first)
    on_disk.volume_resize("v", MIB + 512)
    on_disk.bookmark_add("shrunk")
    on_disk.volume_resize("v", 3 * MIB)
    put(on_disk, "v", 3 * MIB - 5, b"early")
    on_disk.bookmark_add("grown")
    shrunk = shots[-1][: MIB + 512]
    grown = (shrunk + bytes(2 * MIB))[: 3 * MIB - 5] + b"early"
    (tmp_path / "new").write_bytes(shots[0])
    on_disk.import_images({"v2": tmp_path / "new"}, "imported")
    with shown(on_disk, mountpoint) as served:
        expected = {"whole": whole, "shrunk": shrunk, "grown": grown}
        expected |= {f"v{number}": shot for number, shot in enumerate(shots)}
        for point, want in expected.items():
            assert_reads(served / f"snaps/{point}/v", want)
            assert mode_of(served / f"snaps/{point}/v") == IN_KERNEL
        assert_reads(served / "snaps/imported/v2", shots[0])


def test_while_the_live_volume_is_written(on_disk: Repository, mountpoint: Path) -> None:
    """A bookmark in the segment that is appended to stays what it is, also when the segment is sealed."""
    put(on_disk, "db", 0, b"a" * 300_000)
    on_disk.bookmark_add("early")
    with shown(on_disk, mountpoint) as served, opened(served / "snaps/early/db") as fd:
        before = pread_all(fd, SIZE)
        with opened(served / "live/db", os.O_RDWR) as live:
            for number in range(4):
                pwrite_all(live, bytes([number + 1]) * MIB, number * 4096)
            punch(live, 8192, 4096)
            os.fsync(live)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        assert pread_all(fd, SIZE) == before == b"a" * 300_000 + bytes(SIZE - 300_000)
        on_disk.bookmark_add("late")
        assert mode_of(served / "snaps/late/db") == IN_KERNEL
        with opened(served / "snaps/late/db") as late, opened(served / "live/db") as live:
            assert pread_all(late, SIZE) == pread_all(live, SIZE)


def test_two_bookmarks_of_one_inode_are_one_file(on_disk: Repository, mountpoint: Path) -> None:
    put(on_disk, "db", 0, b"once")
    on_disk.bookmark_add("a")
    on_disk.bookmark_add("b")
    with shown(on_disk, mountpoint) as served, opened(served / "snaps/a/db") as a:
        with opened(served / "snaps/b/db") as b:
            assert os.fstat(a).st_ino == os.fstat(b).st_ino
            assert os.pread(a, 4, 0) == os.pread(b, 4, 0) == b"once"
            assert (served.data().open_kernel, served.data().open_verify) == (2, 0)
        wait_for_opens(served, kernel=1, verify=0)
        assert os.pread(a, 4, 0) == b"once"


def wait_for_opens(served: Shown, *, kernel: int, verify: int) -> None:
    """RELEASE comes after close(2) has returned; the mount's root is asked something, which comes later still."""
    eventually(lambda: (served.data().open_kernel, served.data().open_verify) == (kernel, verify), "files are released")


def test_the_first_open_decides(on_disk: Repository, mountpoint: Path) -> None:
    put(on_disk, "db", 0, b"x" * 65536)
    on_disk.bookmark_add("a")
    with shown(on_disk, mountpoint) as served:
        path = served / "snaps/a/db"
        with opened(path, os.O_RDONLY | os.O_DIRECT) as direct:
            block = mmap.mmap(-1, 65536)
            assert os.preadv(direct, [block], 0) == 65536
            assert block[:] == b"x" * 65536
            with opened(path) as fd:
                assert mode_of(path) == IN_PLANE
                assert os.pread(fd, 3, 0) == b"xxx"
            assert mode_of(path) == IN_PLANE
        wait_for_opens(served, kernel=0, verify=0)
        with opened(path):
            assert mode_of(path) == IN_KERNEL
            with pytest.raises(OSError, match=str(errno.EINVAL)):
                os.open(path, os.O_RDONLY | os.O_DIRECT)
            assert served.data().open_kernel == 1
        with opened(path) as fd:
            fcntl.fcntl(fd, fcntl.F_SETFL, os.O_DIRECT)
            with pytest.raises(OSError, match=str(errno.EINVAL)):
                os.preadv(fd, [block], 0)


def test_rules_for_points(on_disk: Repository, mountpoint: Path) -> None:
    for name in ("nightly-1", "other"):
        put(on_disk, "db", 0, name.encode())
        on_disk.bookmark_add(name)
    rules = DataRules(points={"nightly-*": "kernel"})
    with shown(on_disk, mountpoint, rules) as served:
        assert mode_of(served / "snaps/nightly-1/db") == IN_KERNEL
        assert mode_of(served / "at/nightly-1/db") == IN_KERNEL
        assert mode_of(served / "snaps/other/db") == IN_PLANE
        with opened(served / "snaps/nightly-1/db") as fd:
            assert os.pread(fd, 9, 0) == b"nightly-1"
            assert served.data().open_kernel == 1


def test_auto_leaves_alone_what_must_be_read_first(on_disk: Repository, mountpoint: Path) -> None:
    on_disk.volume_add("big", size_bytes=64 * MIB)
    for at in range(0, 20 * MIB, MIB):
        put(on_disk, "big", at, os.urandom(MIB))
    on_disk.bookmark_add("a")
    rules = DataRules(mode="auto", points={"a": "kernel"})
    with shown(on_disk, mountpoint, rules) as served, opened(served / "snaps/a/big"):
        assert served.data().open_kernel == 1
    with shown(on_disk, mountpoint, DataRules(mode="auto")) as served:
        assert mode_of(served / "snaps/a/big") == IN_PLANE
        with opened(served / "snaps/a/big"):
            assert served.data().open_verify == 1
    rules = DataRules(mode="auto", points={"a": "kernel"})
    with shown(on_disk, mountpoint, rules) as served:
        with opened(served / "snaps/a/big"):
            pass
        put(on_disk, "big", 0, b"a little more")
        on_disk.bookmark_add("b")
        assert mode_of(served / "snaps/b/big") == IN_KERNEL, "all but a block is known to be sound"


def damaged(repository: Repository) -> bytes:
    """A block of ``db`` at 8192 is damaged in its sealed segment, between sound ones; what it should be."""
    marked = b"find me".ljust(4096, b".")
    put(repository, "db", 0, b"b" * 8192 + marked + b"d" * 8192)
    repository.bookmark_add("a")
    repository.journal.seal()
    segment = next(path for path in (repository.path / "journal").iterdir() if b"find me" in path.read_bytes())
    flip_bit(segment, b"find me")
    return marked


def test_damage_is_found_and_read_around(on_disk: Repository, mountpoint: Path) -> None:
    damaged(on_disk)
    with shown(on_disk, mountpoint) as served:
        with capture_logs() as logs, opened(served / "snaps/a/db") as fd:
            assert os.pread(fd, 8192, 0) == b"b" * 8192
            with pytest.raises(OSError, match=str(errno.EIO)):
                os.pread(fd, 4096, 8192)
            assert os.pread(fd, 8192, 12288) == b"d" * 8192
            assert mode_of(served / "snaps/a/db") == IN_PLANE
        told = [line for line in logs if line["log_level"] == "error" and line["event"].startswith("not read by")]
        assert len(told) == 1
        assert "offset 8192" in told[0]["why"]
        assert told[0]["segment"] > 0


def test_verification_can_be_left_out(on_disk: Repository, mountpoint: Path) -> None:
    marked = damaged(on_disk)
    with shown(on_disk, mountpoint, DataRules(mode="kernel", kernel_verify=False)) as served:
        assert mode_of(served / "snaps/a/db") == (b"kernel", b"no")
        with opened(served / "snaps/a/db") as fd:
            found = os.pread(fd, 4096, 8192)
        assert found != marked
        assert found[7:] == marked[7:]


def test_a_repository_in_memory(repository: Repository, mountpoint: Path) -> None:
    """Segments may lie anywhere, if there is a disk for the image."""
    put(repository, "db", 100, b"in memory")
    repository.bookmark_add("a")
    with shown(repository, mountpoint) as served, opened(served / "snaps/a/db") as fd:
        assert os.pread(fd, 9, 100) == b"in memory"
        assert served.data().open_kernel == 1


def test_with_nothing_but_memory_all_goes_through_the_plane(repository: Repository, mountpoint: Path) -> None:
    put(repository, "db", 100, b"in memory")
    repository.bookmark_add("a")
    scratch = repository.path
    with capture_logs() as logs, Shown(repository, mountpoint, live=True, data=KERNEL, scratch=scratch) as served:
        assert not served.data().kernel
        assert "tmpfs" in (served.data().why_not or "")
        assert mode_of(served / "snaps/a/db") == IN_PLANE
        with opened(served / "snaps/a/db") as fd:
            assert os.pread(fd, 9, 100) == b"in memory"
            assert served.data().open_verify == 1
    assert [line["event"] for line in logs].count("all reads go through vsnapfs") == 1


def test_a_scratch_directory_that_is_not_there(on_disk: Repository, mountpoint: Path, tmp_path: Path) -> None:
    on_disk.bookmark_add("a")
    with Shown(on_disk, mountpoint, live=False, data=KERNEL, scratch=tmp_path / "none") as served:
        assert served.data().why_not == f"{tmp_path}/none: No such file or directory"
        assert mode_of(served / "snaps/a/db") == IN_PLANE


def test_nothing_is_left(on_disk: Repository, mountpoint: Path) -> None:
    """Of many opens, some at the same time, neither descriptors nor mounts nor files."""
    history(on_disk, "db", 8, bytearray(SIZE))
    with shown(on_disk, mountpoint) as served:
        with opened(served / "snaps/db0/db") as fd:
            os.pread(fd, 1, 0)
        wait_for_opens(served, kernel=0, verify=0)
        before, free = len(os.listdir("/proc/self/fd")), os.statvfs(on_disk.path).f_ffree
        for _ in range(5):
            with ExitStack() as stack:
                fds = [stack.enter_context(opened(served / f"snaps/db{n % 8}/db")) for n in range(40)]
                assert served.data().open_kernel == len(fds)
                assert "erofs" not in Path("/proc/self/mountinfo").read_text()
                assert all(len(os.pread(fd, 100_000, MIB)) == 100_000 for fd in fds)
            wait_for_opens(served, kernel=0, verify=0)
        assert len(os.listdir("/proc/self/fd")) <= before + len(list((on_disk.path / "journal").iterdir()))
        assert sh("find", on_disk.path, "-name", "#*") == ""
        assert os.statvfs(on_disk.path).f_ffree >= free - 100


@pytest.mark.parametrize("how", [("-f", "--data", "kernel"), ("-f", "-o", "ro,data=kernel")])
def test_the_command(tmp_path: Path, how: tuple[str, ...]) -> None:
    repository = make_repository(tmp_path / "repository", db="1M")
    must(repository, "bookmark", "add", "a")
    with Mounted(repository, tmp_path / "mnt", verb="mount", options=("-f", *how)) as mounted:
        assert mode_of(mounted.mountpoint / "snaps/a/db") == IN_KERNEL


def test_status_says_who_reads(tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "repository", db="1M")
    assert json.loads(run(repository, "status", "--json").stdout)["data"] is None
    (repository / "vsnapfs.toml").write_text('[mount]\ndata = "kernel"\n')
    must(repository, "bookmark", "add", "a")
    with Mounted(repository, tmp_path / "mnt") as server, opened(server.mountpoint / "snaps/a/db"):
        shown_data = {"mode": "kernel", "kernel": True, "why_not": None, "open_verify": 0, "open_kernel": 1}
        assert must_json(repository, "status")["data"] == shown_data
        assert "kernel, 0 open files verified, 1 read by the kernel" in must(repository, "status")
    with Mounted(repository, tmp_path / "mnt", options=("--data", "verify")) as server:
        assert must_json(repository, "status")["data"]["mode"] == "verify"

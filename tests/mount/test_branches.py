"""Branches in a mount: each reads as its point did and takes writes of its own; nothing else ever sees them."""

from __future__ import annotations

import errno
import hashlib
import json
import mmap
import os
import random
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from tests.mount.conftest import MIB, Shown
from tests.mount.test_tree_refusals import INTO, OF, refused
from tests.support.files import data_ranges, opened, pread_all, punch, pwrite_all
from tests.support.scratch import BLOCK_BYTES, Scratch, branch_opened, count
from tests.support.waiting import eventually
from vsnapfs.core.errors import BusyError, NotFoundError
from vsnapfs.repository.repository import Repository

BRANCHES = count("VSNAPFS_BRANCHES", 12)
CYCLES = count("VSNAPFS_BRANCH_CYCLES", 60)
DEPTH = 5

pytestmark = [
    pytest.mark.mount, pytest.mark.requires_fuse, pytest.mark.timeout(300 + 3 * BRANCHES + CYCLES)
]  # fmt: skip

SEED = 20261126


@pytest.fixture
def filled(served: Shown) -> Shown:
    """Live volume ``db`` has bytes, at bookmark ``a`` too."""
    Scratch(served / "live/db", bytes(4 * MIB)).change(random.Random(SEED), 200)
    served.repository.bookmark_add("a")
    return served


def content(path: Path) -> bytes:
    with opened(path) as fd:
        return pread_all(fd, os.fstat(fd).st_size + 1)


def digest(path: Path) -> str:
    return hashlib.sha256(content(path)).hexdigest()


def branch(shown: Shown, name: str, source: str = "a", volume: str = "db") -> Scratch:
    """A new one, and what its volume has to hold: what its source holds now."""
    below = source.removeprefix("branch:")
    place = shown / (f"snaps/{source}/{volume}" if below == source else f"branches/{below}/{volume}")
    shown.repository.branch_add(name, source)
    return Scratch(shown / f"branches/{name}/{volume}", content(place))


class TestLooks:
    def test_it_reads_as_its_point(self, filled: Shown) -> None:
        made = branch(filled, "x")
        made.assert_whole()
        assert os.listdir(filled / "branches") == ["x"]
        assert sorted(os.listdir(filled / "branches/x")) == ["MANIFEST.json", "db", "logs"]
        assert data_ranges_of(filled / "branches/x/db") == data_ranges_of(filled / "snaps/a/db")

    def test_attributes(self, filled: Shown) -> None:
        made = filled.repository.branch_add("x", "a")
        found = os.stat(filled / "branches/x/db")
        assert (found.st_size, found.st_blocks, stat.S_IMODE(found.st_mode)) == (4 * MIB, 4 * MIB // 512, 0o600)
        with opened(filled / "branches/x/db", os.O_WRONLY) as fd:
            pwrite_all(fd, b"x" * BLOCK_BYTES, 0)
            os.fsync(fd)
        eventually(
            lambda: os.stat(filled / "branches/x/db").st_mtime_ns > found.st_mtime_ns, "the time of the last write"
        )
        assert os.getxattr(filled / "branches/x", "user.vsnapfs.seqno") == str(made.seqno).encode()
        manifest = json.loads((filled / "branches/x/MANIFEST.json").read_text())
        assert manifest["branch"]["name"] == "x"
        assert [volume["name"] for volume in manifest["volumes"]] == ["db", "logs"]

    def test_names_come_and_go_at_once(self, filled: Shown) -> None:
        for _ in range(3):
            with pytest.raises(FileNotFoundError):
                os.stat(filled / "branches/x/db")
            filled.repository.branch_add("x", "a")
            assert os.stat(filled / "branches/x/db").st_size == 4 * MIB
            filled.repository.branch_remove("x")
            eventually(lambda: not (filled / "branches/x").exists(), "the name is gone")

    def test_a_new_one_of_the_same_name_has_nothing_of_the_old(self, filled: Shown) -> None:
        first = branch(filled, "x")
        before = bytes(first.content)
        first.change(random.Random(SEED), 30)
        inode = os.stat(first.path).st_ino
        filled.repository.branch_remove("x")
        filled.repository.branch_add("x", "a")
        eventually(lambda: os.stat(first.path).st_ino != inode, "the new one")
        Scratch(first.path, before).assert_whole()

    @pytest.mark.parametrize("name", ["open truncating", "truncate", "unlink", "rename", "link", "chmod", "chown"])
    def test_a_volume_keeps_its_name_size_and_mode(self, filled: Shown, name: str) -> None:
        branch(filled, "x")
        assert refused(OF[name], filled / "branches/x/db") == errno.EPERM
        assert os.stat(filled / "branches/x/db").st_size == 4 * MIB

    @pytest.mark.parametrize("place", ["branches", "branches/x"])
    @pytest.mark.parametrize("name", list(INTO))
    def test_nothing_can_be_made_there(self, filled: Shown, place: str, name: str) -> None:
        branch(filled, "x")
        assert refused(INTO[name], filled / place) == errno.EPERM

    def test_the_manifest_cannot_be_written(self, filled: Shown) -> None:
        branch(filled, "x")
        assert refused(OF["open for writing"], filled / "branches/x/MANIFEST.json") == errno.EROFS

    def test_times_are_taken_without_effect(self, filled: Shown) -> None:
        branch(filled, "x")
        os.utime(filled / "branches/x/db", ns=(0, 0))
        assert os.stat(filled / "branches/x/db").st_mtime_ns != 0

    def test_a_reader_shows_none(self, repository: Repository, mountpoint: Path) -> None:
        repository.branch_add("x", "@2")
        with (
            Repository.open(repository.path, owner=False) as reader,
            Shown(reader, mountpoint, live=False) as shown,
        ):
            assert sorted(os.listdir(shown.path)) == ["at", "diff", "snaps"]


def data_ranges_of(path: Path) -> list[tuple[int, int]]:
    with opened(path) as fd:
        return data_ranges(fd)


class TestWrites:
    def test_past_the_end_and_across_it(self, filled: Shown) -> None:
        made = branch(filled, "x")
        with opened(made.path, os.O_RDWR) as fd:
            assert os.pwrite(fd, b"e" * 8192, 4 * MIB - 4096) == 4096
            with pytest.raises(OSError, match="No space") as caught:
                os.pwrite(fd, b"e", 4 * MIB)
            assert caught.value.errno == errno.ENOSPC
            assert os.pread(fd, 8192, 4 * MIB - 4096) == b"e" * 4096

    def test_past_the_page_cache(self, filled: Shown) -> None:
        made = branch(filled, "x")
        page = mmap.mmap(-1, BLOCK_BYTES)
        page.write(b"d" * BLOCK_BYTES)
        with opened(made.path, os.O_RDWR | os.O_DIRECT) as fd:
            assert os.pwritev(fd, [page], BLOCK_BYTES) == BLOCK_BYTES
        made.content[BLOCK_BYTES : 2 * BLOCK_BYTES] = b"d" * BLOCK_BYTES
        made.assert_whole()

    def test_through_memory(self, filled: Shown) -> None:
        made = branch(filled, "x")
        with opened(made.path, os.O_RDWR) as fd, mmap.mmap(fd, 4 * MIB) as mapped:
            mapped[10:20] = b"m" * 10
            mapped.flush()
        made.content[10:20] = b"m" * 10
        made.assert_whole()

    def test_holes_are_found(self, filled: Shown) -> None:
        made = branch(filled, "x")
        with opened(made.path, os.O_RDWR) as fd:
            punch(fd, 0, 4 * MIB)
            assert data_ranges(fd) == []
            pwrite_all(fd, b"w" * BLOCK_BYTES, MIB)
            assert data_ranges(fd) == [(MIB, BLOCK_BYTES)]

    def test_discards_give_the_room_back(self, filled: Shown) -> None:
        made = branch(filled, "x")
        layers = filled.repository.path / "branches/layers"
        with opened(made.path, os.O_RDWR) as fd:
            pwrite_all(fd, os.urandom(4 * MIB), 0)
            os.fsync(fd)
            assert filled.repository.branch("x").used_bytes == 4 * MIB
            assert allocated(layers) > 4 * MIB
            punch(fd, 0, 4 * MIB)
            os.fsync(fd)
        assert filled.repository.branch("x").used_bytes == 0
        assert allocated(layers) < MIB // 4


def allocated(directory: Path) -> int:
    return sum(entry.stat().st_blocks * 512 for entry in directory.rglob("*") if entry.is_file())


class TestIsolation:
    def test_many_written_at_once(self, filled: Shown) -> None:
        """Each, the live volume and their source: none sees what is written to another."""
        before = digest(filled / "snaps/a/db")
        made = [branch(filled, f"b{number}") for number in range(BRANCHES)]
        live = Scratch(filled / "live/db", content(filled / "live/db"))
        with ThreadPoolExecutor(BRANCHES + 1) as pool:
            done = [
                pool.submit(scratch.change, random.Random(SEED + number), 100)
                for number, scratch in enumerate([live, *made])
            ]
            for each in done:
                each.result()
        for scratch in (live, *made):
            scratch.assert_whole()
        assert digest(filled / "snaps/a/db") == before
        sums = [hashlib.sha256(scratch.content).hexdigest() for scratch in made]
        assert len({*sums, before}) == BRANCHES + 1
        for number in range(0, BRANCHES, 2):
            filled.repository.branch_remove(f"b{number}")
        for scratch in made[1::2]:
            scratch.assert_whole()

    def test_branches_of_branches(self, filled: Shown) -> None:
        """Each begins with what the one before had; all are written to afterwards, and some removed."""
        rng = random.Random(SEED)
        made = [branch(filled, "d0")]
        for depth in range(1, DEPTH + 1):
            made[-1].change(rng, 30)
            made.append(branch(filled, f"d{depth}", f"branch:d{depth - 1}"))
            made[-2].change(rng, 30)
        made.append(branch(filled, "twin", f"branch:d{DEPTH - 1}"))
        for scratch in made:
            scratch.change(rng, 20)
        for scratch in made:
            scratch.assert_whole()
        for depth in (0, 2, DEPTH):
            filled.repository.branch_remove(f"d{depth}")
            made = [scratch for scratch in made if scratch.path.parent.name != f"d{depth}"]
            for scratch in made:
                scratch.assert_whole()

    def test_a_branch_of_one_that_is_being_written_to_is_a_moment_of_it(self, filled: Shown) -> None:
        """What it has is what the older one had after some write, no earlier than what was answered before."""
        made = branch(filled, "x")
        blocks, forks = 64, 8
        written, stopping = [0], threading.Event()

        def write() -> None:
            with opened(made.path, os.O_WRONLY) as fd:
                while not stopping.is_set():
                    number = written[0] + 1
                    block = number.to_bytes(8, "big") * (BLOCK_BYTES // 8)
                    pwrite_all(fd, block, number % blocks * BLOCK_BYTES)
                    written[0] = number

        def at(fork: int) -> int:
            """The newest write that it has; all before have to be there, and none after."""
            found = content(filled / f"branches/y{fork}/db")
            numbers = [int.from_bytes(found[i * BLOCK_BYTES :][:8], "big") for i in range(blocks)]
            last = max(numbers)
            assert sorted(numbers) == list(range(last - blocks + 1, last + 1))
            for i, number in enumerate(numbers):
                assert found[i * BLOCK_BYTES :][:BLOCK_BYTES] == number.to_bytes(8, "big") * (BLOCK_BYTES // 8)
            return last

        writer = threading.Thread(target=write)
        writer.start()
        try:
            moments = []
            for fork in range(forks):
                reached = written[0] + 2 * blocks
                eventually(lambda reached=reached: written[0] >= reached, "the writer goes on")  # type: ignore[misc]
                before = written[0]
                filled.repository.branch_add(f"y{fork}", "branch:x")
                moments.append((before, written[0] + 1))
        finally:
            stopping.set()
            writer.join()
        for fork, (earliest, latest) in enumerate(moments):
            assert earliest <= at(fork) <= latest
        assert len(list((filled.repository.path / "branches/layers").iterdir())) >= 2 * forks

    def test_forks_of_what_nobody_writes_to_take_no_layers(self, filled: Shown) -> None:
        made = branch(filled, "x")
        made.change(random.Random(SEED), 10)
        for number in range(5):
            branch(filled, f"y{number}", "branch:x").assert_whole()
        layers = json.loads((filled.repository.path / "branches/x.json").read_text())["layers"]
        assert len(layers) == 2

    def test_bytes_that_go_bad_cost_one_branch_alone(self, filled: Shown) -> None:
        x, y = branch(filled, "x"), branch(filled, "y")
        for scratch in (x, y):
            with opened(scratch.path, os.O_WRONLY) as fd:
                pwrite_all(fd, b"w" * BLOCK_BYTES, MIB)
                os.fsync(fd)
            scratch.content[MIB : MIB + BLOCK_BYTES] = b"w" * BLOCK_BYTES
        layer = json.loads((filled.repository.path / "branches/x.json").read_text())["layers"][-1]
        with opened(filled.repository.path / f"branches/layers/{layer:08x}/00000001.data", os.O_WRONLY) as fd:
            pwrite_all(fd, b"v", 100)
        with opened(x.path) as fd:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            with pytest.raises(OSError, match="Errno 5"):
                os.pread(fd, BLOCK_BYTES, MIB)
            assert pread_all(fd, MIB) == x.content[:MIB]
        y.assert_whole()


class TestRoom:
    def test_a_quota_ends_one_branch_alone(self, filled: Shown) -> None:
        filled.repository.branch_add("small", "a", quota_bytes=256 * 1024)
        small = Scratch(filled / "branches/small/db", content(filled / "snaps/a/db"))
        other = branch(filled, "other")
        with opened(small.path, os.O_RDWR) as fd:
            at = fill(fd, small)
            assert at == 256 * 1024
            with pytest.raises(OSError, match="No space"):
                os.fsync(fd)  # a loop device may not have told who wrote
            os.fsync(fd)
            assert filled.repository.branch("small").used_bytes == 256 * 1024
            pwrite_all(fd, b"o" * BLOCK_BYTES, 0)  # over what is there already
            small.content[:BLOCK_BYTES] = b"o" * BLOCK_BYTES
            os.fsync(fd)
            punch(fd, 0, 4 * BLOCK_BYTES)
            small.content[: 4 * BLOCK_BYTES] = bytes(4 * BLOCK_BYTES)
            os.fsync(fd)
            pwrite_all(fd, b"n" * BLOCK_BYTES, at)
            small.content[at : at + BLOCK_BYTES] = b"n" * BLOCK_BYTES
        other.change(random.Random(SEED), 100)
        for scratch in (small, other):
            scratch.assert_whole()
        Scratch(filled / "live/db", content(filled / "live/db")).change(random.Random(SEED), 10)

    def test_all_volumes_count(self, filled: Shown) -> None:
        filled.repository.branch_add("small", "a", quota_bytes=2 * BLOCK_BYTES)
        for volume in ("db", "logs"):
            with opened(filled / f"branches/small/{volume}", os.O_WRONLY) as fd:
                pwrite_all(fd, b"w" * BLOCK_BYTES, 0)
        fd = os.open(filled / "branches/small/logs", os.O_WRONLY)
        with pytest.raises(OSError, match="No space") as caught:
            os.pwrite(fd, b"w" * BLOCK_BYTES, MIB // 2)
        assert caught.value.errno == errno.ENOSPC
        with pytest.raises(OSError, match="No space"):
            os.close(fd)  # which is a sync

    def test_made_written_and_dropped_again_and_again_nothing_is_left(self, filled: Shown) -> None:
        place = filled.repository.path / "branches"
        filled.repository.branch_add("stays", "a")
        before = left(place)
        for number in range(CYCLES):
            made = branch(filled, "x")
            made.change(random.Random(number), 8)
            if number % 3 == 0:
                child = branch(filled, "y", "branch:x")
                child.change(random.Random(number), 4)
                filled.repository.branch_remove("x" if number % 2 else "y")
                (made if number % 2 == 0 else child).assert_whole()
                filled.repository.branch_remove("y" if number % 2 else "x")
            else:
                filled.repository.branch_remove("x")
        assert left(place) == before
        assert [made.name for made in filled.repository.branches()] == ["stays"]


def fill(fd: int, scratch: Scratch) -> int:
    """Write from the beginning on until there is no room. Returns how many bytes were taken."""
    at = 0
    while True:
        try:
            pwrite_all(fd, b"f" * BLOCK_BYTES, at)
        except OSError as error:
            assert error.errno == errno.ENOSPC  # noqa: PT017
            return at
        scratch.content[at : at + BLOCK_BYTES] = b"f" * BLOCK_BYTES
        at += BLOCK_BYTES


def left(place: Path) -> tuple[list[str], int]:
    """Names, and bytes but for the file of ids."""
    found = [entry for entry in place.rglob("*") if entry.name != "ids.json"]
    return sorted(str(entry.relative_to(place)) for entry in found), sum(
        entry.stat().st_blocks * 512 for entry in found if entry.is_file()
    )


class TestInUse:
    @pytest.fixture
    def held(self, filled: Shown) -> Iterator[Callable[[], None]]:
        """Branch ``x``, open. Called, it is closed."""
        branch(filled, "x")
        fd = os.open(filled / "branches/x/db", os.O_RDWR)
        closing = [fd]

        def close() -> None:
            if closing:
                with suppress(OSError):  # a mount that has ended says so, and the descriptor is closed all the same
                    os.close(closing.pop())

        yield close
        close()

    def test_the_end_of_the_mount_ends_it_too(self, filled: Shown, held: Callable[[], None]) -> None:
        scratch = Scratch(filled / "branches/x/db", content(filled / "snaps/a/db"))
        scratch.change(random.Random(SEED), 10)
        filled.stop()
        held()
        assert filled.repository.branch("x").in_use == 0
        with branch_opened(filled.repository, "x") as branch:
            assert branch.read(1, 0, 4 * MIB) == scratch.content
        filled.repository.branch_remove("x")

    def test_one_that_is_open_stays_and_works(self, filled: Shown, held: Callable[[], None]) -> None:
        assert filled.repository.branch("x").in_use == 1
        with pytest.raises(BusyError, match="x is in use"):
            filled.repository.branch_remove("x")
        scratch = Scratch(filled / "branches/x/db", content(filled / "snaps/a/db"))
        scratch.change(random.Random(SEED), 10)
        scratch.assert_whole()
        held()
        filled.repository.branch_remove("x")  # the kernel may still be about to tell of the close
        with pytest.raises(NotFoundError):
            filled.repository.branch("x")

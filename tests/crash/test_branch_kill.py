"""kill -9 under writes to branches: of the worker, which nobody notices, and of the whole server, after which all that was
answered is there. Live volumes, points and other branches are what they were.

VSNAPFS_WORKER_KILLS says how many kills each test makes.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.files import opened, pread_all, pwrite_all
from tests.support.keeper import Killing, Workers, kills
from tests.support.processes import Mounted, make_repository, must, must_json, run
from tests.support.waiting import eventually

KILLS = kills(6)
BRANCHES = ("x", "y", "child")
BLOCK_BYTES = 4096
BLOCKS = 512
SEED = 4711

pytestmark = [
    pytest.mark.crash, pytest.mark.requires_root, pytest.mark.requires_fuse, pytest.mark.timeout(300 + 15 * KILLS)
]  # fmt: skip


class Writer:
    """A thread that writes numbered blocks to a branch, in order, over and over. ``answered``: so many were.

    With ``may_fail`` an error ends it: then the write after the last answered one may be there or not.
    """

    def __init__(self, path: Path, *, may_fail: bool) -> None:
        self.path = path
        self.answered = 0
        self.failure: BaseException | None = None
        self._may_fail = may_fail
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"writer {path.parent.name}")

    def _run(self) -> None:
        try:
            with opened(self.path, os.O_WRONLY) as fd:
                while not self._stopping.is_set():
                    pwrite_all(fd, block(self.answered + 1), place(self.answered + 1))
                    self.answered += 1
                    if self.answered % 16 == 0:
                        os.fsync(fd)
        except OSError as error:
            if not self._may_fail:
                self.failure = error

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
        if self.failure is not None:
            raise self.failure

    def assert_there(self, before: bytes, *, uncertain: int) -> None:
        """All that was answered, and of so many writes after it perhaps some: whole, and in order."""
        with opened(self.path) as fd:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            found = pread_all(fd, BLOCKS * BLOCK_BYTES)
        assert found in {expected(before, self.answered + extra) for extra in range(uncertain + 1)}, self.path


class Fork(NamedTuple):
    """A branch of one that was written to meanwhile. told: it was made. From its first to its last: how many writes it may have."""

    name: str
    told: bool
    first: int
    last: int

    def assert_moment(self, mountpoint: Path) -> None:
        with opened(mountpoint / f"branches/{self.name}/db") as fd:
            found = pread_all(fd, BLOCKS * BLOCK_BYTES)
        newest = max(int.from_bytes(found[at : at + 8], "big") for at in range(0, len(found), BLOCK_BYTES))
        assert self.first <= newest <= self.last, self
        assert found == expected(bytes(len(found)), newest), self


def fork_while(going: Callable[[], bool], repository: Path, writer: Writer) -> list[Fork]:
    """Make branches of the one that the writer writes to; a kill may leave one made or not."""
    forks: list[Fork] = []
    while going():
        name, first = f"fork{len(forks)}", writer.answered
        done = run(repository, "branch", "add", name, "--from", f"branch:{writer.path.parent.name}")
        forks.append(Fork(name, done.returncode == 0, first, writer.answered + 1))
    return forks


def block(number: int) -> bytes:
    return number.to_bytes(8, "big") * (BLOCK_BYTES // 8)


def place(number: int) -> int:
    return number * 7919 % BLOCKS * BLOCK_BYTES


def expected(before: bytes, writes: int) -> bytes:
    content = bytearray(before)
    for number in range(max(1, writes - BLOCKS + 1), writes + 1):
        content[place(number) : place(number) + BLOCK_BYTES] = block(number)
    return bytes(content)


@contextmanager
def writing(mountpoint: Path, *, may_fail: bool) -> Iterator[list[Writer]]:
    writers = [Writer(mountpoint / f"branches/{name}/db", may_fail=may_fail) for name in BRANCHES]
    with ExitStack() as stack:
        for writer in writers:
            writer.start()
            stack.callback(writer.stop)
        yield writers


@pytest.fixture
def server(tmp_path: Path) -> Mounted:
    """Not started; its repository has a volume ``db`` with bytes at bookmark ``a``, and a quiet branch."""
    repository = make_repository(tmp_path / "repository", db=BLOCKS * BLOCK_BYTES)
    return Mounted(repository, tmp_path / "mount")


def begin(server: Mounted) -> bytes:
    """Fill the volume and make the branches. Returns what their point holds."""
    before = random.Random(SEED).randbytes(BLOCKS * BLOCK_BYTES)
    with opened(server.mountpoint / "live/db", os.O_WRONLY) as fd:
        pwrite_all(fd, before, 0)
        os.fsync(fd)
    must(server.repository, "bookmark", "add", "a")
    for name, source in (("x", "a"), ("y", "a"), ("child", "branch:x"), ("quiet", "a")):
        must(server.repository, "branch", "add", name, "--from", source)
    return before


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def assert_nothing_else_changed(server: Mounted, before: bytes) -> None:
    wanted = hashlib.sha256(before).hexdigest()
    for shown in ("snaps/a/db", "live/db", "branches/quiet/db"):
        assert digest(server.mountpoint / shown) == wanted, shown
    assert must_json(server.repository, "check", "--read-data")["damages"] == []


def test_a_killed_worker_is_not_noticed(server: Mounted) -> None:
    with server:
        before = begin(server)
        workers = Workers(server.repository, SEED)
        with writing(server.mountpoint, may_fail=False) as writers:
            eventually(lambda: writers[0].answered > BLOCKS, "each block is written", deadline_s=60)
            with Killing(workers, KILLS) as killing:
                forks = fork_while(lambda: killing.going, server.repository, writers[0])
        for writer in writers:
            writer.assert_there(before, uncertain=0)
        there = {branch["name"] for branch in must_json(server.repository, "branch", "list")["branches"]}
        assert {fork.name for fork in forks if fork.told} <= there
        for fork in forks:
            if fork.name in there:
                fork.assert_moment(server.mountpoint)
        assert_nothing_else_changed(server, before)
        print(f"{workers}; {[writer.answered for writer in writers]} writes, {len(forks)} branches of one")


def test_what_was_answered_survives_the_death_of_all_processes(server: Mounted) -> None:
    with server:
        before = begin(server)
        for round_number in range(max(1, KILLS // 3)):
            with writing(server.mountpoint, may_fail=True) as writers:
                reached = [writer.answered + 200 for writer in writers]
                eventually(
                    lambda reached=reached, writers=writers: all(  # type: ignore[misc]
                        writer.answered >= wanted for writer, wanted in zip(writers, reached, strict=True)
                    ),
                    "the writers go on",
                    deadline_s=60,
                )
                worker = Workers(server.repository, SEED).pid()
                server.kill(leave_mount=True)
                with suppress(ProcessLookupError):  # it ends with its keeper
                    os.kill(worker, signal.SIGKILL)
            server.start()
            for writer in writers:
                writer.assert_there(before, uncertain=1)
            assert_nothing_else_changed(server, before)
            for name in BRANCHES:
                must(server.repository, "branch", "remove", name)
            for name, source in (("x", "a"), ("y", "a"), ("child", "branch:x")):
                must(server.repository, "branch", "add", name, "--from", source)
            print(f"round {round_number}: {[writer.answered for writer in writers]} writes")

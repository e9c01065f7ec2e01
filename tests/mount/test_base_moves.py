"""A file that was opened at a point reads to its end after that point was given up: the move of its base waits for it, and goes on then."""

from __future__ import annotations

import mmap
import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.mount.conftest import MIB, Showing, Shown
from tests.support.base_moves import floor, move_bases
from tests.support.volumes import mark, put
from tests.support.waiting import eventually
from vsnapfs.binding.base_move import base_seqno
from vsnapfs.repository.repository import Repository
from vsnapfs.tree.data_mode import DataRules

pytestmark = [pytest.mark.mount, pytest.mark.requires_fuse]

SIZE = 4 * MIB
PIECE = 256 << 10
JOIN_S = 60.0


@pytest.fixture
def history(tmp_path: Path) -> Iterator[Repository]:
    """``db`` on a base; the points ``old`` and ``kept``, between which most of it is written over."""
    rng = random.Random(11)
    path, image = tmp_path / "repository", tmp_path / "db.img"
    Repository.create(path)
    image.write_bytes(rng.randbytes(SIZE))
    with Repository.open(path, owner=True) as repository:
        repository.volume_add("db", primary=image)
        mark(repository, "db", 4096, rng.randbytes(PIECE), "old")
        for at in range(0, SIZE, 2 * PIECE):
            put(repository, "db", at, rng.randbytes(PIECE + 700))
        repository.journal.seal()
        repository.bookmark_add("kept")
        yield repository


def contents(repository: Repository, point: str) -> bytes:
    with repository.view("db", repository.resolve(point)) as view:
        return view.read(0, SIZE)


class Moving:
    """A move of all bases in a thread of its own: ``waits`` as long as somebody reads below, ``left`` in the end."""

    def __init__(self, repository: Repository) -> None:
        self.left: list[str] | None = None
        self.asked = 0
        self._repository = repository
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._move, name="moving")

    def _move(self) -> None:
        self.left = move_bases(self._repository, give_up=self._give_up)

    def _give_up(self) -> bool:
        self.asked += 1
        return self._stop.is_set()

    @contextmanager
    def begun(self) -> Iterator[None]:
        self._thread.start()
        try:
            eventually(lambda: self.asked >= 2, "the move waits")
            yield
        finally:
            self._stop.set()
            self._thread.join(JOIN_S)

    def ended(self) -> list[str] | None:
        self._thread.join(JOIN_S)
        return self.left


def reads_on(repository: Repository, path: Path, *, direct: bool) -> None:
    """``path`` is the volume at ``old``, in a mount. It is read in pieces, the first before the point is given up."""
    expected, kept = contents(repository, "old"), contents(repository, "kept")
    seqno, gone = repository.bookmark("kept").seqno, repository.bookmark("old").seqno
    fd = os.open(path, os.O_RDONLY | (os.O_DIRECT if direct else 0))
    with open(fd, "rb", buffering=0) as file:
        found = os.pread(fd, PIECE, 0) if not direct else b""
        repository.bookmark_remove("old")
        floor(repository, seqno)
        moving = Moving(repository)
        with moving.begun():
            if direct:  # with a buffer that the kernel can use
                found = read_direct(fd)
            else:
                while len(found) < SIZE:
                    found += os.pread(fd, PIECE, len(found))
            assert found == expected
            assert moving.left is None
            assert base_seqno(repository.journal, 1) == 0
            anew = path.parents[2] / "at" / f"@{gone}" / "db"
            eventually(lambda: not os.path.lexists(anew), "the point is gone for who comes later")
            file.close()
            assert moving.ended() == []
    assert base_seqno(repository.journal, 1) == seqno
    assert contents(repository, "kept") == kept
    assert (path.parents[1] / "kept/db").read_bytes() == kept
    assert repository.check(read_data=True).damages == []


def read_direct(fd: int) -> bytes:
    with mmap.mmap(-1, SIZE) as buf:
        at = 0
        while at < SIZE:
            at += os.preadv(fd, [memoryview(buf)[at : at + PIECE]], at)
        return bytes(buf)


def test_of_the_server_itself(history: Repository, mountpoint: Path) -> None:
    with Shown(history, mountpoint, live=True):
        reads_on(history, mountpoint / "snaps/old/db", direct=True)


def test_of_another_process(history: Repository, mountpoint: Path, start: Showing) -> None:
    start(history.path, "mount")
    reads_on(history, mountpoint / "snaps/old/db", direct=True)


@pytest.mark.requires_root
def test_that_the_kernel_reads_by_itself(history: Repository, mountpoint: Path) -> None:
    with Shown(history, mountpoint, live=True, data=DataRules(mode="kernel")) as shown:
        assert shown.data().kernel, shown.data().why_not
        reads_on(history, mountpoint / "snaps/old/db", direct=False)

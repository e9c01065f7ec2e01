"""Volumes that the kernel reads by itself while bases move and the journal is rewritten under them: the same bytes, also out of files
that have no name any more; and out of the new ones for who opens later."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.mount.conftest import MIB, Shown
from tests.support.files import opened, pread_all
from tests.support.volumes import content_at, put
from tests.support.waiting import eventually
from vsnapfs.binding.base_move import base_seqno
from vsnapfs.repository.repository import Repository
from vsnapfs.tree.data_mode import DataRules

pytestmark = [pytest.mark.mount, pytest.mark.requires_root, pytest.mark.requires_fuse]

SIZE = 4 * MIB + 1536
ROUNDS = 12
SETTINGS = """
[journal]
segment_size = "256K"
[retention]
protection_window = "1ms"
keep_last = 2
prune = "off"
"""


@pytest.fixture
def history(tmp_path: Path) -> Iterator[Repository]:
    """``db`` on a base, written over in pieces, aligned and not, with a bookmark ``b0``, ``b1`` … after each round; ``again`` is
    at a later point than ``b4``, of the same content."""
    rng = random.Random(5)
    path, image = tmp_path / "repository", tmp_path / "db.img"
    Repository.create(path)
    (path / "vsnapfs.toml").write_text(SETTINGS)
    image.write_bytes(rng.randbytes(SIZE))
    with Repository.open(path, owner=True) as repository:
        repository.volume_add("db", primary=image)
        repository.volume_add("other", size_bytes=MIB)
        for number in range(ROUNDS):
            for _ in range(12):
                length = rng.choice((512, 4096, 40_000, 70_001))
                put(repository, "db", rng.randrange((SIZE - length) // 512) * 512, rng.randbytes(length))
            repository.bookmark_add(f"b{number}")
            if number == 4:
                put(repository, "other", 0, b"another volume")
                repository.bookmark_add("again")
        put(repository, "db", 0, rng.randbytes(MIB))
        repository.journal.seal()
        repository.bookmark_add("last")
        yield repository


def cold(fd: int) -> bytes:
    """All of it, not out of the cache."""
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    return pread_all(fd, SIZE)


def files(repository: Repository) -> set[str]:
    return {path.name for path in (repository.path / "journal").iterdir() if path.suffix == ".seg"}


def test_it_reads_on(history: Repository, mountpoint: Path) -> None:
    before = files(history)
    early, middle, last = (content_at(history, "db", name) for name in ("b1", "b4", "last"))
    with Shown(history, mountpoint, live=True, data=DataRules(mode="kernel")) as shown, ExitStack() as later:
        assert shown.data().kernel, shown.data().why_not
        with opened(shown / "snaps/b1/db") as one, opened(shown / "snaps/b4/db") as two:
            assert shown.data().open_kernel == 2
            for bookmark in history.bookmarks():
                if bookmark.name not in ("again", "last"):
                    history.bookmark_remove(bookmark.name)
            history.prune()
            new = files(history) - before
            assert any("-" in name for name in new), "the journal was rewritten"
            assert (cold(one), cold(two)) == (early, middle)
            again = later.enter_context(opened(shown / "snaps/again/db"))
            assert os.fstat(again).st_ino == os.fstat(two).st_ino

        def are_gone() -> bool:
            history.prune()
            return len(before - files(history)) > 3

        eventually(are_gone, "files go that were replaced; that a file was closed is told to the server later")
        assert base_seqno(history.journal, history.volume("db").id) == history.bookmark("again").seqno
        assert cold(again) == middle, "out of files that have no name any more"
        with opened(shown / "snaps/last/db") as newest:
            assert cold(newest) == last
        later.close()
        eventually(lambda: shown.data().open_kernel == 0, "all is closed")
        with opened(shown / "snaps/again/db") as anew:
            assert shown.data().open_kernel == 1
            assert cold(anew) == middle, "out of the files that are there now"
    assert history.check(read_data=True).damages == []

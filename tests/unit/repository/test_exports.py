"""Raw images out of the repository: right everywhere, sparse where that can be."""

from __future__ import annotations

import io
import os
import random
import threading
from pathlib import Path

import pytest

from tests.support.volumes import content_at, flip_bit, mark, put
from vsnapfs.core.errors import CorruptExtentError, NoSpaceError, NotFoundError, StoreError
from vsnapfs.core.state import Progress
from vsnapfs.repository.repository import Repository

SIZE = 3 << 20


@pytest.fixture
def repository(repository: Repository) -> Repository:
    rng = random.Random(2)
    repository.volume_add("db0", size_bytes=SIZE)
    put(repository, "db0", 4096, rng.randbytes(100))
    mark(repository, "db0", 1 << 20, rng.randbytes((1 << 20) + 4096 * 3 + 1), "a")
    return repository


def export(repository: Repository, out: int) -> None:
    repository.export(repository.resolve("a"), "db0", out)


def test_a_new_file_is_sparse(repository: Repository, memory_path: Path) -> None:
    with (memory_path / "out").open("wb") as file:
        export(repository, file.fileno())
    assert (memory_path / "out").read_bytes() == content_at(repository, "db0", "a")
    assert (memory_path / "out").stat().st_blocks * 512 < SIZE // 2


def test_a_file_object(repository: Repository, memory_path: Path) -> None:
    point = repository.resolve("a")
    with (memory_path / "out").open("wb") as file:
        file.write(b"head")
        repository.export(point, "db0", file)
        file.write(b"tail")
    assert (memory_path / "out").read_bytes() == b"head" + content_at(repository, "db0", "a") + b"tail"
    out = io.BytesIO()
    repository.export(point, "db0", out)
    assert out.getvalue() == content_at(repository, "db0", "a")


def test_a_file_with_old_content_is_written_whole(repository: Repository, memory_path: Path) -> None:
    (memory_path / "out").write_bytes(b"\xff" * SIZE)
    fd = os.open(memory_path / "out", os.O_WRONLY)
    export(repository, fd)
    os.close(fd)
    assert (memory_path / "out").read_bytes() == content_at(repository, "db0", "a")


def test_appending_is_written_whole(repository: Repository, memory_path: Path) -> None:
    """Where every write goes to the end, a hole cannot be sought over."""
    fd = os.open(memory_path / "out", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    export(repository, fd)
    os.close(fd)
    assert (memory_path / "out").read_bytes() == content_at(repository, "db0", "a")


def test_a_volume_that_ends_in_a_hole_has_its_size(repository: Repository, memory_path: Path) -> None:
    repository.volume_add("empty", size_bytes=1 << 40)
    repository.bookmark_add("b")
    with (memory_path / "out").open("wb") as file:
        repository.export(repository.resolve("b"), "empty", file)
    found = (memory_path / "out").stat()
    assert (found.st_size, found.st_blocks) == (1 << 40, 0)


def test_a_pipe(repository: Repository) -> None:
    reading, writing = os.pipe()
    read: list[bytes] = []

    def drain() -> None:
        with os.fdopen(reading, "rb") as file:
            read.append(file.read())

    thread = threading.Thread(target=drain)
    thread.start()
    export(repository, writing)
    os.close(writing)
    thread.join()
    assert read == [content_at(repository, "db0", "a")]


def test_a_pipe_that_closes(repository: Repository) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        with pytest.raises(StoreError) as caught:
            export(repository, writing)
    finally:
        os.close(writing)
    assert caught.value.exit_status == 1


def test_a_disk_that_is_full(repository: Repository) -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(NoSpaceError):
            export(repository, fd)
    finally:
        os.close(fd)


def test_progress(repository: Repository, memory_path: Path) -> None:
    told: list[Progress] = []
    with (memory_path / "out").open("wb") as file:
        repository.export(repository.resolve("a"), "db0", file, told.append)
    done = [progress.done for progress in told]
    assert done == sorted(done)
    assert (done[-1], told[-1].total) == (SIZE, SIZE)


def test_damage_is_never_exported(repository: Repository, path: Path, memory_path: Path) -> None:
    mark(repository, "db0", 8192, b"needle" + bytes(100) + b"x", "b")
    repository.journal.seal()
    repository.close()
    flip_bit(path / "journal" / "00000000000000000001.seg", b"needle")
    with Repository.open(path, owner=False) as reader:
        with (memory_path / "out").open("wb") as file, pytest.raises(CorruptExtentError) as caught:
            reader.export(reader.resolve("b"), "db0", file)
        assert (caught.value.exit_status, caught.value.segment, caught.value.volume) == (6, 1, 1)
        with (memory_path / "older").open("wb") as file:
            reader.export(reader.resolve("a"), "db0", file)


def test_what_is_not_there(repository: Repository) -> None:
    with pytest.raises(NotFoundError):
        repository.export(repository.resolve("a"), "db9", io.BytesIO())

"""Images in: only what differs is journalled, and the result is the image."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.support.volumes import content_at, mark, put
from vsnapfs.binding import RecordPiece
from vsnapfs.core.errors import NameTakenError, NotFoundError, ReadOnlyError, UsageError
from vsnapfs.core.state import Progress
from vsnapfs.repository.repository import Repository

SIZE = 4 << 20


@pytest.fixture
def image(memory_path: Path) -> Path:
    path = memory_path / "image"
    with path.open("wb") as file:
        file.write(random.Random(1).randbytes(1 << 20))
        file.truncate(SIZE)
    return path


def pieces_after(repository: Repository, seqno: int) -> list[RecordPiece]:
    return list(repository.journal.pieces(seqno))


def change(path: Path, offset_bytes: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset_bytes)
        file.write(content)


def test_an_unknown_volume_is_made(repository: Repository, image: Path) -> None:
    bookmark = repository.import_images({"db0": image}, "one", consistency="application", application="x", note="n")
    assert (bookmark.name, bookmark.consistency, bookmark.application, bookmark.note) == (
        "one",
        "application",
        "x",
        "n",
    )
    volume = repository.volume("db0")
    assert (volume.primary, volume.primary_path, volume.base, volume.size_bytes) == ("none", None, False, SIZE)
    assert content_at(repository, "db0", "one") == image.read_bytes()
    assert sum(piece.length_bytes for piece in pieces_after(repository, 0)) == 1 << 20
    assert repository.volume_at("db0", repository.resolve("one")).data_bytes == 1 << 20


def test_only_what_differs_is_journalled(repository: Repository, image: Path) -> None:
    first = repository.import_images({"db0": image}, "one")
    before = image.read_bytes()
    change(image, 5000, b"z" * 10)
    change(image, 12288, bytes(8192))
    change(image, SIZE - 1, b"e")
    second = repository.import_images({"db0": image}, "two")
    found = [(piece.offset_bytes, piece.length_bytes, piece.zero) for piece in pieces_after(repository, first.seqno)]
    assert found == [(4096, 4096, False), (12288, 8192, True), (SIZE - 4096, 4096, False)]
    assert second.seqno == first.seqno + 4
    assert content_at(repository, "db0", "one") == before
    assert content_at(repository, "db0", "two") == image.read_bytes()


def test_an_image_that_changed_nothing_gets_its_bookmark(repository: Repository, image: Path) -> None:
    first = repository.import_images({"db0": image}, "one")
    assert repository.import_images({"db0": image}, "two").seqno == first.seqno + 1


def test_holes_of_the_image_become_zeros(repository: Repository, image: Path) -> None:
    repository.import_images({"db0": image}, "one")
    os.truncate(image, 8192)
    os.truncate(image, SIZE)
    repository.import_images({"db0": image}, "two")
    assert content_at(repository, "db0", "two") == image.read_bytes()
    assert repository.volume_at("db0", repository.resolve("two")).data_bytes == 8192


def test_a_large_sparse_image_takes_no_time(repository: Repository, memory_path: Path) -> None:
    image = memory_path / "large"
    with image.open("wb") as file:
        file.truncate(1 << 40)
        file.seek(1 << 39)
        file.write(b"middle")
    told: list[Progress] = []
    repository.import_images({"db0": image}, "one", progress=told.append)
    assert len(told) < 5
    repository.import_images({"db0": image}, "two", progress=told.append)
    assert (told[-1].done, told[-1].total) == (1 << 40, 1 << 40)


@pytest.mark.parametrize("size", [512, SIZE // 2 + 512, SIZE * 2])
def test_an_image_of_another_size_resizes(repository: Repository, image: Path, size: int) -> None:
    repository.import_images({"db0": image}, "one")
    before = image.read_bytes()
    os.truncate(image, size)
    change(image, size - 1, b"e")
    repository.import_images({"db0": image}, "two")
    assert content_at(repository, "db0", "one") == before
    assert content_at(repository, "db0", "two") == image.read_bytes()
    assert repository.volume("db0").size_bytes == size


def test_several_volumes_make_one_point(repository: Repository, image: Path, memory_path: Path) -> None:
    second = memory_path / "second"
    second.write_bytes(b"s" * 4096)
    told: list[Progress] = []
    bookmark = repository.import_images({"db0": image, "db1": second}, "one", progress=told.append)
    assert len(repository.bookmarks()) == 1
    assert [volume.name for volume in repository.volumes(repository.resolve("one"))] == ["db0", "db1"]
    assert content_at(repository, "db1", "one") == b"s" * 4096
    done = [progress.done for progress in told]
    assert done == sorted(done)
    assert (told[-1].done, told[-1].total) == (SIZE + 4096, SIZE + 4096)
    assert bookmark.seqno == repository.journal.facts().last_seqno


def test_a_volume_with_a_primary_gets_it_there_too(repository: Repository, image: Path) -> None:
    volume = repository.volume_add("db0", size_bytes=SIZE // 2)
    mark(repository, "db0", 0, b"old" * 1000, "old")
    repository.import_images({"db0": image}, "one")
    assert Path(volume.primary_path or "").read_bytes() == image.read_bytes()
    assert content_at(repository, "db0", "old")[:9] == b"oldoldold"


def test_all_is_judged_before_the_first_write(repository: Repository, image: Path, memory_path: Path) -> None:
    repository.bookmark_add("taken")
    (memory_path / "odd").write_bytes(b"x" * 100)
    before = repository.journal.facts().last_seqno
    refused: list[tuple[dict[str, Path], str, type[Exception]]] = [
        ({"db0": image}, "taken", NameTakenError),
        ({"db0": image}, "latest", UsageError),
        ({"db0": image, "a/b": image}, "one", UsageError),
        ({"db0": image, "db1": memory_path / "odd"}, "one", UsageError),
        ({"db0": image, "db1": memory_path / "missing"}, "one", NotFoundError),
        ({"db0": image, "db1": memory_path}, "one", UsageError),
        ({"db0": image, "db1": repository.path / "repository.json"}, "one", UsageError),
        ({}, "one", UsageError),
    ]
    for images, bookmark, error in refused:
        with pytest.raises(error):
            repository.import_images(images, bookmark)
    assert repository.journal.facts().last_seqno == before
    assert repository.volumes() == []


def test_an_import_that_was_broken_off_can_be_done_again(repository: Repository, image: Path) -> None:
    repository.import_images({"db0": image}, "one")
    image.write_bytes(random.Random(2).randbytes(SIZE))
    calls = []

    def break_off(progress: Progress) -> None:
        calls.append(progress)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        repository.import_images({"db0": image}, "two", progress=break_off)
    assert [bookmark.name for bookmark in repository.bookmarks()] == ["one"]
    seqno = repository.journal.facts().last_seqno
    repository.import_images({"db0": image}, "two")
    assert content_at(repository, "db0", "two") == image.read_bytes()
    assert sum(piece.length_bytes for piece in pieces_after(repository, seqno)) == SIZE - (2 << 20)


def test_a_reader_imports_nothing(repository: Repository, path: Path, image: Path) -> None:
    with Repository.open(path, owner=False) as reader, pytest.raises(ReadOnlyError):
        reader.import_images({"db0": image}, "one")


class TestResync:
    """After somebody wrote to a primary past the splitter."""

    @pytest.mark.parametrize("ack", ["both", "journal"])
    def test_what_was_written_behind_is_journalled(self, path: Path, image: Path, ack: str) -> None:
        (path / "vsnapfs.toml").write_text(f'[journal]\nack = "{ack}"\n')
        with Repository.open(path, owner=True) as repository:
            repository.volume_add("db0", primary=image)
            mark(repository, "db0", 0, b"known" * 1000, "known")
            before = content_at(repository, "db0", "known")
        change(image, 70_000, b"behind our back")
        change(image, 200_704, bytes(8192))
        with Repository.open(path, owner=True) as repository:
            told: list[Progress] = []
            assert repository.volume_resync("db0", told.append) == 4096 + 8192
            repository.bookmark_add("synced")
            assert content_at(repository, "db0", "synced") == image.read_bytes()
            assert content_at(repository, "db0", "known") == before
            assert (told[-1].done, told[-1].total) == (SIZE, SIZE)
            assert repository.volume_resync("db0") == 0

    def test_what_is_not_on_the_primary_yet_is_not_taken_back(self, repository: Repository) -> None:
        repository.volume_add("db0", size_bytes=SIZE)
        put(repository, "db0", 0, b"pending" * 1000)
        assert repository.volume_resync("db0") == 0
        assert content_at(repository, "db0", "-0s")[:7] == b"pending"

    def test_a_volume_without_a_primary(self, repository: Repository, image: Path) -> None:
        repository.import_images({"db0": image}, "one")
        with pytest.raises(UsageError, match="no primary"):
            repository.volume_resync("db0")

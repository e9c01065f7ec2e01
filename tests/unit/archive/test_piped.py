"""Recall of an archive that comes once, as out of a pipe."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.archived import Archived, Images, changed, ignore, image, images_in
from vsnapfs.archive.coding import Coding
from vsnapfs.archive.landing import Landing
from vsnapfs.archive.piped import Piped
from vsnapfs.archive.recall import Recalled
from vsnapfs.core.errors import IntegrityError, UsageError
from vsnapfs.media.plain import PipeReader

pytestmark = pytest.mark.unit
SIZE = 3 << 20
NAME = "the pipe"


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Archived]:
    made = Archived(tmp_path / "archived", capacity=64 << 20, piece=64 << 20)
    yield made
    made.close()


def some_images() -> Images:
    rng = random.Random(5)
    return {"db0": image(rng, SIZE, 200), "db1": image(rng, SIZE + 512, 30), "empty": bytes(SIZE)}


def out_of_pipe(content: bytes, to: Path, volumes: tuple[str, ...] = (), *, resume: bool = False) -> Recalled:
    read_fd, write_fd = os.pipe()
    feeding = threading.Thread(target=_feed, args=(write_fd, content))
    feeding.start()
    try:
        with closing(PipeReader(read_fd, NAME)) as reader, closing(Piped(reader, NAME)) as piped:
            landing = Landing(to, [piped.manifest.archive], volumes, resume=resume)
            with closing(landing):
                return piped.recall(landing, ignore)
    finally:
        feeding.join()


def _feed(fd: int, content: bytes) -> None:
    try:
        with os.fdopen(fd, "wb") as pipe:
            pipe.write(content)
    except BrokenPipeError:
        pass


@pytest.mark.parametrize("coding", [Coding(), Coding("zstd")])
def test_all_of_an_archive(tmp_path: Path, coding: Coding) -> None:
    with closing(Archived(tmp_path / "archived", capacity=64 << 20, piece=64 << 20, coding=coding)) as ground:
        images = some_images()
        ground.archive(images)
        stored = ground.files()[1].read_bytes()
    done = out_of_pipe(stored, tmp_path / "to")
    assert images_in(tmp_path / "to") == images
    assert (done.flaws, done.lost) == ([], [])
    out_of_pipe(stored, tmp_path / "one", ("db1",))
    assert images_in(tmp_path / "one") == {"db1": images["db1"]}


def test_what_ends_too_early_is_named_and_the_rest_given(ground: Archived, tmp_path: Path) -> None:
    images = some_images()
    ground.archive(images)
    stored = ground.files()[1].read_bytes()
    rng = random.Random(6)
    for number, length in enumerate([4096, len(stored) - 1500, *(rng.randrange(4096, len(stored)) for _ in range(8))]):
        to = tmp_path / str(number)
        done = out_of_pipe(stored[:length], to)
        assert done.flaws, length
        assert done.lost, length
        found = images_in(to)
        for name, wanted in images.items():
            expected = bytearray(wanted)
            for lost in (one for one in done.lost if one.volume == name and one.zeros):
                expected[lost.offset_bytes : lost.end_bytes] = bytes(lost.length_bytes)
            assert found[name] == expected, (name, length)


def test_what_is_not_as_it_was_written_is_in_doubt(ground: Archived, tmp_path: Path) -> None:
    images = some_images()
    ground.archive(images)
    stored = bytearray(ground.files()[1].read_bytes())
    stored[stored.index(images["db1"].lstrip(b"\0")[:64])] ^= 1
    done = out_of_pipe(bytes(stored), tmp_path / "to")
    assert [(lost.volume, lost.zeros) for lost in done.lost] == [("db1", False)]
    assert images_in(tmp_path / "to")["db0"] == images["db0"]


def test_what_a_try_before_has_left_is_written_over(ground: Archived, tmp_path: Path) -> None:
    images = some_images()
    ground.archive(images)
    stored = ground.files()[1].read_bytes()
    with closing(Landing(tmp_path / "to", [ground.catalog.archives()[0].uuid], (), resume=False)) as landing:
        with closing(PipeReader(os.open(ground.files()[1], os.O_RDONLY), NAME)) as reader:
            landing.begin(Piped(reader, NAME).manifest)
        landing.write("db0", 0, memoryview(b"x" * SIZE))
        landing.settle(0, 0, 0)
    done = out_of_pipe(stored, tmp_path / "to", resume=True)
    assert done.lost == []
    assert {name: images_in(tmp_path / "to")[name] for name in images} == images


def test_what_it_cannot_be(ground: Archived, tmp_path: Path) -> None:
    images = some_images()
    ground.archive(images)
    ground.archive({name: changed(random.Random(7), content, 5) for name, content in images.items()}, since=True)
    with pytest.raises(UsageError, match="incremental"):
        out_of_pipe(ground.files()[3].read_bytes(), tmp_path / "to")
    for nothing in (b"", bytes(4096), b"nothing of ours" * 1000):
        with pytest.raises(IntegrityError, match="does not begin with an archive"):
            out_of_pipe(nothing, tmp_path / "to")
    assert not (tmp_path / "to").exists()

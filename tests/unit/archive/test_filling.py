"""What one copy of a point has lost is taken from another one."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.archived import Archived, Images, changed, ignore, image, images_in, recall, right_or_named
from vsnapfs.archive.chain import plan
from vsnapfs.archive.coding import Coding
from vsnapfs.archive.damage import Damage
from vsnapfs.archive.filling import Other
from vsnapfs.archive.given import GivenTapes, slots_of_path
from vsnapfs.archive.landing import Landing
from vsnapfs.archive.layer import Options
from vsnapfs.archive.recall import Recall
from vsnapfs.archive.scan import look

pytestmark = pytest.mark.unit
SIZE = 1 << 20
CHUNK = 65536


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Archived]:
    made = Archived(tmp_path / "archived", capacity=16 << 20, piece=96 << 10)
    yield made
    made.close()


def some_images(rng: random.Random) -> Images:
    return {"db0": image(rng, SIZE, 120), "db1": image(rng, SIZE, 10)}


def pieces_of(ground: Archived, archive: str) -> list[Path]:
    (tape,) = ground.path.iterdir()
    return [next(tape.glob(f"{piece.file:05d}.*")) for piece in ground.catalog.pieces(archive)]


def spoil(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset % len(content)] ^= 4
    path.write_bytes(content)


def spoil_data(ground: Archived, archive: str, content: bytes) -> None:
    """Where the archive has these bytes."""
    for path in pieces_of(ground, archive):
        at = path.read_bytes().find(content)
        if at >= 0:
            spoil(path, at)
            return
    raise AssertionError("no piece has them")


def test_another_archive_of_the_point(ground: Archived, tmp_path: Path) -> None:
    images = some_images(random.Random(1))
    older = ground.archive(images)
    newer = ground.archive_again()
    spoil(pieces_of(ground, newer)[1], 50_000)
    done = recall([ground.path], tmp_path / "to")
    assert done.archives == (newer,)
    assert images_in(tmp_path / "to") == images
    assert done.lost == []
    assert {filled.archive for filled in done.filled} == {older}
    assert sum(filled.length_bytes for filled in done.filled) <= CHUNK
    assert len(done.flaws) == 1


def test_what_both_have_lost_stays_lost(ground: Archived, tmp_path: Path) -> None:
    images = some_images(random.Random(2))
    copies = [ground.archive(images), ground.archive_again()]
    data = images["db1"].lstrip(b"\0")[:64]
    for archive in copies:
        spoil_data(ground, archive, data)
    spoil(pieces_of(ground, copies[1])[0], 90_000)
    done = recall([ground.path], tmp_path / "to")
    at = images["db1"].index(data)
    assert any(lost.volume == "db1" and lost.offset_bytes <= at < lost.end_bytes for lost in done.lost)
    assert "db0" in {filled.volume for filled in done.filled}
    right_or_named(done, images, tmp_path / "to")


@pytest.mark.parametrize("verify", [True, False])
def test_another_chain_to_the_point(ground: Archived, tmp_path: Path, verify: bool) -> None:
    rng = random.Random(3)
    images = some_images(rng)
    first = ground.archive(images)
    for size in (SIZE // 2, SIZE + 8192):
        images = {name: changed(rng, content, 12) for name, content in images.items()}
        images["db0"] = images["db0"][:size].ljust(size, b"\0")
        ground.archive(images, since=True)
    other = ground.archive_again(0)
    for path in pieces_of(ground, first):
        spoil(path, 60_000)
    done = recall([ground.path], tmp_path / "to", options=Options(verify=verify))
    assert len(done.archives) == 3
    assert other not in done.archives
    assert images_in(tmp_path / "to") == images
    assert done.filled
    assert done.lost == []


def test_a_copy_of_the_tape(ground: Archived, tmp_path: Path) -> None:
    images = some_images(random.Random(4))
    archive = ground.archive(images)
    shutil.copytree(ground.path, tmp_path / "copy")
    copied = [tmp_path / "copy" / path.relative_to(ground.path) for path in pieces_of(ground, archive)]
    spoil(pieces_of(ground, archive)[0], 90_000)
    pieces_of(ground, archive)[2].unlink()
    for path in copied[3:]:
        spoil(path, 20_000)
    done = recall([ground.path, tmp_path / "copy"], tmp_path / "to", options=Options(salvage=True))
    assert images_in(tmp_path / "to") == images
    assert done.lost == []
    assert done.filled


@pytest.mark.parametrize("index", ["there", "gone"])
def test_a_piece_that_both_lack_is_lost_whatever_is_behind_it(ground: Archived, tmp_path: Path, index: str) -> None:
    rng = random.Random(8)
    images = some_images(rng)
    copies = [ground.archive(images), ground.archive_again()]
    for archive in copies:
        piece = pieces_of(ground, archive)[1]
        piece.unlink()
        if index == "gone":
            piece.with_name(f"{int(piece.name[:5]) + 1:05d}.index").unlink()
    done = recall([ground.path], tmp_path / "to", options=Options(verify=False, salvage=True))
    assert done.lost
    assert done.filled == []
    right_or_named(done, images, tmp_path / "to")


def test_bytes_are_right_or_named_whatever_both_copies_lack(ground: Archived, tmp_path: Path) -> None:
    rng = random.Random(5)
    images = some_images(rng)
    copies = [ground.archive(images), ground.archive_again()]
    backup = tmp_path / "backup"
    shutil.copytree(ground.path, backup)
    for run in range(12):
        shutil.rmtree(ground.path)
        shutil.copytree(backup, ground.path)
        for archive in copies:
            for path in rng.sample(pieces_of(ground, archive), 4):
                index = path.with_name(f"{int(path.name[:5]) + 1:05d}.index")
                spoil(index if rng.random() < 0.2 else path, rng.randrange(2_000))
                spoil(path, rng.randrange(path.stat().st_size))
            if run % 2:
                rng.choice(pieces_of(ground, archive)).unlink()
        done = recall([ground.path], tmp_path / str(run), options=Options(verify=run % 3 > 0, salvage=True))
        assert done.filled or not done.lost, "something of one copy is sound in the other"
        right_or_named(done, images, tmp_path / str(run))


def test_a_copy_encrypted_to_somebody_else_is_of_no_use_and_no_harm(ground: Archived, tmp_path: Path) -> None:
    images = some_images(random.Random(6))
    archive = ground.archive(images)
    generated = subprocess.run(["age-keygen"], capture_output=True, text=True, check=True)
    recipient = re.search(r"age1\w+", generated.stdout)
    assert recipient is not None
    ground.flow = ground.flow._replace(coding=Coding(recipients=(recipient[0],)))
    ground.archive_again()
    spoil(pieces_of(ground, archive)[1], 50_000)
    done = recall([ground.path], tmp_path / "to", archive)
    assert done.lost
    assert done.filled == []
    right_or_named(done, images, tmp_path / "to")


def test_a_recall_that_is_broken_off_while_it_fills_goes_on(ground: Archived, tmp_path: Path) -> None:
    """The recall that was broken off had begun to write into what is lost."""
    images = some_images(random.Random(7))
    ground.archive(images)
    newer = ground.archive_again()
    spoil(pieces_of(ground, newer)[1], 50_000)
    with closing(GivenTapes(slots_of_path(ground.path))) as given:
        known = look(given, Damage())
        found = plan(known, known.archives[newer])
        with (
            closing(Landing(tmp_path / "to", [newer], (), resume=False)) as landing,
            pytest.raises(KeyboardInterrupt),
        ):
            Recall(found, given, landing, Options(), ignore, _broken_off(landing)).run()
    done = recall([ground.path], tmp_path / "to", newer, resume=True)
    assert images_in(tmp_path / "to") == images
    assert done.filled
    assert done.lost == []


def _broken_off(landing: Landing) -> Iterator[Other]:
    for lost in landing.damage.lost():
        landing.write(lost.volume, lost.offset_bytes, memoryview(b"x" * lost.length_bytes))
    if landing.is_begun:
        raise KeyboardInterrupt
    yield from ()

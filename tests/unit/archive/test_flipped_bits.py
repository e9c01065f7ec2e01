"""One bit of a tape flipped, wherever: it is noticed, and all that it is no part of is recalled.

``VSNAPFS_TAPE_FLIPS`` says how many (default 40), ``VSNAPFS_TAPE_SEED`` which.
"""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.archived import Archived, changed, image, recall
from vsnapfs.archive.index import CHUNK_BYTES
from vsnapfs.archive.recall import Recalled

pytestmark = [pytest.mark.unit, pytest.mark.timeout(3000)]
FLIPS = int(os.environ.get("VSNAPFS_TAPE_FLIPS", "40"))
SEED = int(os.environ.get("VSNAPFS_TAPE_SEED", "1"))
SIZE = 1 << 20


class Flip(NamedTuple):
    path: Path
    at: int
    bit: int

    def do(self) -> None:
        """Twice is nothing."""
        with self.path.open("r+b") as file:
            file.seek(self.at)
            byte = file.read(1)[0]
            file.seek(self.at)
            file.write(bytes([byte ^ 1 << self.bit]))


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archived]:
    made = archived(tmp_path_factory.mktemp("flips") / "archived", SEED)
    yield made
    made.close()


def archived(path: Path, seed: int) -> Archived:
    """A full archive and two incremental ones, over several tapes."""
    made = Archived(path, capacity=768 << 10, piece=192 << 10)
    rng = random.Random(seed)
    images = {"db0": image(rng, SIZE, 80), "db1": image(rng, SIZE, 10)}
    made.archive(images)
    for _ in range(2):
        images = {name: changed(rng, content, 15) for name, content in images.items()}
        made.archive(images, since=True)
    return made


def chosen(rng: random.Random, files: list[Path]) -> Flip:
    """Half of them anywhere, by bytes; half in any file, so that small ones have their turn."""
    weights = [path.stat().st_size for path in files]
    path = rng.choices(files, weights)[0] if rng.random() < 0.5 else rng.choice(files)
    return Flip(path, rng.randrange(path.stat().st_size), rng.randrange(8))


def judge(done: Recalled, ground: Archived, to: Path) -> int:
    """Returns: the bytes that are lost, which are all that differs."""
    lost_bytes = 0
    for name, wanted in ground.points[-1][1].items():
        found = bytearray((to / name).read_bytes())
        assert len(found) == len(wanted)
        expected = bytearray(wanted)
        for lost in (one for one in done.lost if one.volume == name):
            assert lost.zeros, lost
            assert not any(found[lost.offset_bytes : lost.end_bytes]), lost
            expected[lost.offset_bytes : lost.end_bytes] = bytes(lost.length_bytes)
            lost_bytes += lost.length_bytes
        assert found == expected
        assert (to / f"{name}.damage").exists() == any(one.volume == name for one in done.lost)
    return lost_bytes


def test_a_flipped_bit_is_noticed_and_the_rest_recalled(ground: Archived, tmp_path: Path) -> None:
    rng = random.Random(SEED)
    files = ground.files()
    kinds: Counter[str] = Counter()
    lossless = 0
    for number in range(FLIPS):
        flip = chosen(rng, files)
        told = f"seed {SEED}, flip {number}: bit {flip.bit} of byte {flip.at} of {flip.path.relative_to(ground.path)}"
        flip.do()
        try:
            done = recall([ground.path], tmp_path / "to")
        except Exception as error:
            raise AssertionError(told) from error
        finally:
            flip.do()
        assert done.flaws, told
        lost_bytes = judge(done, ground, tmp_path / "to")
        assert lost_bytes <= CHUNK_BYTES, told
        assert not lost_bytes or flip.path.suffix == ".tar", told
        shutil.rmtree(tmp_path / "to")
        kinds[flip.path.suffix] += 1
        lossless += not lost_bytes
    print(f"{FLIPS} flips, all noticed: {dict(kinds)}; {lossless} cost nothing, the others one chunk at most")
    assert sum(kinds.values()) == FLIPS


@pytest.mark.parametrize("seed", [1123, 1124, 1125])
def test_any_one_index_costs_nothing(tmp_path: Path, seed: int) -> None:
    """Also that of a last piece which is alone on its tape, as with the first of these seeds."""
    with closing(archived(tmp_path / "archived", seed)) as ground:
        for path in (path for path in ground.files() if path.suffix == ".index"):
            flip = Flip(path, 1644 % path.stat().st_size, 4)
            flip.do()
            done = recall([ground.path], tmp_path / "to")
            flip.do()
            assert done.flaws, path
            assert judge(done, ground, tmp_path / "to") == 0, path
            shutil.rmtree(tmp_path / "to")

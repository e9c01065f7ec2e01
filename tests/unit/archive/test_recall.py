"""Recall from the tapes of a pool alone."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.archived import Archived, changed, image, images_in, recall

pytestmark = pytest.mark.unit
SIZE = 3 << 20


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Archived]:
    made = Archived(tmp_path / "archived")
    yield made
    made.close()


def test_a_full_archive_over_several_tapes_is_recalled(ground: Archived, tmp_path: Path) -> None:
    rng = random.Random(1)
    images = {"db0": image(rng, SIZE, 300), "db1": image(rng, SIZE + 512, 40), "empty": bytes(SIZE)}
    ground.archive(images)
    done = recall([ground.path], tmp_path / "to")
    assert images_in(tmp_path / "to") == images
    assert (done.flaws, done.lost) == ([], [])
    assert len(list(ground.path.iterdir())) > 2


def test_each_point_of_a_chain_is_recalled(ground: Archived, tmp_path: Path) -> None:
    rng = random.Random(2)
    images = {"db0": image(rng, SIZE, 200), "db1": image(rng, SIZE, 20)}
    ground.archive(images)
    for _ in range(5):
        images = images | {"db0": changed(rng, images["db0"], 20)}
        ground.archive(images, since=True)
    for number, (name, wanted) in enumerate(ground.points):
        done = recall([ground.path], tmp_path / name, name)
        assert images_in(tmp_path / name) == wanted
        assert len(done.archives) == number + 1
        assert (done.flaws, done.lost) == ([], [])

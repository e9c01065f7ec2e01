"""Recall from the tapes of a pool alone."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.archived import Archived, changed, image, images_in, recall
from vsnapfs.core.errors import UsageError

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


def test_names_of_volumes_that_read_like_members_of_others(ground: Archived, tmp_path: Path) -> None:
    rng = random.Random(3)
    images = {name: image(rng, SIZE, 30) for name in ("db", "db.json", "db.extents", "SHA256SUMS")}
    ground.archive(images)
    images = {name: changed(rng, content, 5) for name, content in images.items()}
    ground.archive(images, since=True)
    for name, wanted in ground.points:
        done = recall([ground.path], tmp_path / name, name)
        assert images_in(tmp_path / name) == wanted
        assert (done.flaws, done.lost) == ([], [])
        recall([ground.path], tmp_path / f"{name}-one", name, volumes=["db"])
        assert images_in(tmp_path / f"{name}-one") == {"db": wanted["db"]}


@pytest.mark.parametrize("other", ["db.partial", "db.damage"])
def test_a_volume_called_as_a_file_beside_another_is_recalled_alone(
    ground: Archived, tmp_path: Path, other: str
) -> None:
    images = {"db": image(random.Random(4), SIZE, 20), other: bytes(SIZE)}
    ground.archive(images)
    with pytest.raises(UsageError, match=other):
        recall([ground.path], tmp_path / "to")
    recall([ground.path], tmp_path / "one", volumes=[other])
    assert images_in(tmp_path / "one") == {other: images[other]}

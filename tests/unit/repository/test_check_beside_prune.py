"""A reader looks or compares, and the owner prunes meanwhile: nothing is damage only because it went."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.pruned import SIZE_BYTES, grow, opened, write_some
from vsnapfs.core.errors import PointGoneError
from vsnapfs.repository import base, check, reading, roots, space, units
from vsnapfs.repository.check import Checking, Wanted
from vsnapfs.repository.repository import Repository
from vsnapfs.repository.scrub import read_unit
from vsnapfs.repository.units import Kind, Unit

pytestmark = pytest.mark.unit


@pytest.fixture(params=["removed", "moved"])
def repository(memory_path: Path, request: pytest.FixtureRequest) -> Iterator[Repository]:
    """Its first volume has a base, which a prune takes away since the volume was removed, or moves."""
    path, image = memory_path / "repository", memory_path / "old.img"
    image.write_bytes(random.Random(1).randbytes(SIZE_BYTES))
    Repository.create(path)
    with opened(path, 'protection_window = "1ms"\nkeep_last = 2') as repository:
        repository.volume_add("old", primary=image)
        grow(repository, random.Random(2), [f"a{number}" for number in range(5)], 40)
        if request.param == "removed":
            repository.volume_remove("old")
        grow(repository, random.Random(3), [f"b{number}" for number in range(12)], 60)
        write_some(repository, random.Random(4), 100)
        repository.journal.commit()
        yield repository


def prune_first(repository: Repository, monkeypatch: pytest.MonkeyPatch, where: Any, name: str) -> list[int]:
    """When this is called the first time. Returns: bytes that were freed, as soon as they are."""
    real = getattr(where, name)
    freed: list[int] = []

    def called(*arguments: Any) -> Any:
        if not freed:
            freed.append(0)
            freed[0] = repository.prune().freed_bytes
        return real(*arguments)

    monkeypatch.setattr(where, name, called)
    return freed


PLACES = [
    (units, "_windows", 0),
    (check, "part_of", 50),
    (Checking, "_maps", 0),
    (Checking, "_end", 100),
    (Checking, "everything", 100),
    (Checking, "base", 100),
    (Checking, "_base_bytes", 0),
    (Checking, "_base_bytes", 100),
    (Checking, "_base_holes", 100),
    (Checking, "segment", 100),
]


@pytest.mark.parametrize(("where", "name", "percent"), PLACES, ids=[f"{name}-{percent}" for _, name, percent in PLACES])
def test_a_check(repository: Repository, monkeypatch: pytest.MonkeyPatch, where: Any, name: str, percent: int) -> None:
    freed = prune_first(repository, monkeypatch, where, name)
    with Repository.open(repository.path, owner=False) as reader:
        assert reader.check(wanted=Wanted(percent=percent, seed=1)).damages == []
    assert freed


@pytest.mark.parametrize("name", ["_maps", "_end", "base", "_base_bytes", "_base_holes"])
def test_a_scrub(repository: Repository, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    freed = prune_first(repository, monkeypatch, Checking, name)
    listed = repository.scrub_units()
    with Repository.open(repository.path, owner=False) as reader:
        for unit in [Unit(Kind.STRUCTURE, 0), *(unit for unit in listed if unit.kind == Kind.BASE)]:
            assert read_unit(reader._parts, unit) == []
    assert freed


def test_what_is_to_be_read_is_listed(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the owner, in another thread than the one that prunes."""
    freed = prune_first(repository, monkeypatch, units, "_windows")
    assert Kind.SEGMENT in {unit.kind for unit in repository.scrub_units()}
    assert freed[0] > 0


@pytest.mark.parametrize("owner", [True, False])
@pytest.mark.parametrize(
    "where", [(roots, "window_seqno"), (space, "space"), (reading, "volume_at")], ids=["window", "space", "volume"]
)
def test_what_bookmarks_take(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, where: tuple[Any, str], owner: bool
) -> None:
    """Told of those that stay."""
    freed = prune_first(repository, monkeypatch, *where)
    if owner:
        spaces = repository.bookmark_space()
    else:
        with Repository.open(repository.path, owner=False) as reader:
            spaces = reader.bookmark_space()
    assert freed[0] > 0
    assert [each.bookmark for each in spaces] == ["b10", "b11"]


def test_a_preview(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of nothing, where all was done meanwhile."""
    with Repository.open(repository.path, owner=False) as reader:
        freed = prune_first(repository, monkeypatch, base, "require_all")
        assert reader.prune_preview().problems == []
    assert freed[0] > 0


@pytest.mark.parametrize("owner", [True, False])
def test_a_point_that_goes_before_it_is_read_is_gone_and_not_damaged(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, owner: bool
) -> None:
    """Its base may have gone with it."""
    with Repository.open(repository.path, owner=False) as other:
        reader = repository if owner else other
        point = reader.resolve("a0")
        freed = prune_first(repository, monkeypatch, reading, "view_of")
        with pytest.raises(PointGoneError):
            reader.view("old", point)
        assert freed[0] > 0

"""Maps and the catalog are made again, and what was there is kept."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.ground import MIB, serving, small_segments
from tests.support.processes import must, must_json, run
from vsnapfs.repository.repository import Repository

INTEGRITY = 6
POINTS = 20
IMAGE_BYTES = 128 << 10

Damage = Callable[[bytes], bytes]

pytestmark = [pytest.mark.e2e, pytest.mark.requires_root, pytest.mark.requires_fuse]


def content(seed: int) -> bytes:
    return random.Random(seed).randbytes(IMAGE_BYTES)


@pytest.fixture
def merged(tmp_path: Path) -> Path:
    """A repository with 20 sealed segments and two merged maps of them."""
    path = tmp_path / "merged"
    Repository.create(path)
    small_segments(path)
    image = tmp_path / "image"
    with Repository.open(path, owner=True) as repository:
        for number in range(POINTS):
            image.write_bytes(content(number))
            repository.import_images({"db": image}, f"b{number}")
        while repository.journal.merge_maps():
            pass
    assert len(maps(path)) == 2
    return path


def maps(repository: Path) -> list[Path]:
    return sorted((repository / "maps").glob("*.map"))


def assert_all_points(repository: Path) -> None:
    """Each bookmark is in the tree, as it was."""
    mountpoint = repository.with_name("mount")
    with serving(repository, mountpoint):
        for number in range(POINTS):
            assert (mountpoint / f"snaps/b{number}/db").read_bytes() == content(number)


def test_maps_that_are_gone_are_made_again(merged: Path) -> None:
    before = {path: path.read_bytes() for path in maps(merged)}
    for path in before:
        path.unlink()
    assert_all_points(merged)
    must(merged, "check", "--repair")
    assert {path: path.read_bytes() for path in maps(merged)} == before


DAMAGES: dict[str, Damage] = {
    "a bit of the header": lambda whole: whole[:40] + bytes([whole[40] ^ 1]) + whole[41:],
    "a bit of a table": lambda whole: whole[:-40] + bytes([whole[-40] ^ 1]) + whole[-39:],
    "cut short": lambda whole: whole[: len(whole) // 2],
    "empty": lambda whole: b"",
    "another file": lambda whole: b"\xff" * len(whole),
}


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_a_damaged_map_costs_no_point_and_is_kept(merged: Path, damage: str) -> None:
    broken = maps(merged)[0]
    whole = broken.read_bytes()
    damaged = DAMAGES[damage](whole)
    broken.write_bytes(damaged)
    found = run(merged, "check", "--json")
    assert found.returncode == INTEGRITY
    assert [(d["file"], d["derived"], d["costs"]) for d in json.loads(found.stdout)["damages"]] == [
        (f"maps/{broken.name}", True, [])
    ]
    must(merged, "check", "--repair")
    assert broken.read_bytes() == whole
    assert broken.with_name(broken.name + ".bad").read_bytes() == damaged
    must(merged, "check", "--read-data")
    assert_all_points(merged)


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_a_server_needs_no_repair_of_maps(merged: Path, damage: str) -> None:
    broken = maps(merged)[1]
    broken.write_bytes(DAMAGES[damage](broken.read_bytes()))
    assert_all_points(merged)
    target = merged.with_name("b3.img")
    must(merged, "export", "b3", "db", "--to", target)
    assert target.read_bytes() == content(3)


def test_a_catalog_that_is_gone_is_made_again(merged: Path) -> None:
    before = must_json(merged, "bookmark", "list"), must_json(merged, "volume", "list")
    for path in merged.glob("catalog.db*"):
        path.unlink()
    must(merged, "bookmark", "hold", "b1")
    must(merged, "bookmark", "release", "b1")
    assert (merged / "catalog.db").exists()
    assert not list(merged.glob("*.bad"))
    assert (must_json(merged, "bookmark", "list"), must_json(merged, "volume", "list")) == before
    must(merged, "check")


CATALOG_DAMAGES: dict[str, Damage] = {
    "a bit of the header": lambda whole: bytes([whole[0] ^ 1]) + whole[1:],
    "cut short": DAMAGES["cut short"],
    "another file": DAMAGES["another file"],
}


@pytest.mark.parametrize("damage", list(CATALOG_DAMAGES))
def test_a_damaged_catalog_is_made_again_and_kept(merged: Path, damage: str) -> None:
    before = must_json(merged, "bookmark", "list")
    catalog = merged / "catalog.db"
    damaged = CATALOG_DAMAGES[damage](catalog.read_bytes())
    catalog.write_bytes(damaged)
    assert must_json(merged, "bookmark", "list") == before, "a reader makes its own"
    assert catalog.read_bytes() == damaged
    must(merged, "bookmark", "hold", "b1")
    must(merged, "bookmark", "release", "b1")
    assert must_json(merged, "bookmark", "list") == before
    assert (merged / "catalog.db.bad").read_bytes() == damaged


def test_repair_compares_the_catalog_with_the_journal(merged: Path) -> None:
    """One bit of a name, which SQLite cannot see."""
    catalog = merged / "catalog.db"
    whole = catalog.read_bytes()
    assert b"b13" in whole
    catalog.write_bytes(whole.replace(b"b13", b"c13"))
    (damage,) = must_json(merged, "check", "--repair")["damages"]
    assert (damage["file"], damage["derived"], damage["repaired"]) == ("catalog.db", True, True)
    assert (merged / "catalog.db.bad").exists()
    with serving(merged, merged.with_name("mount")) as server:
        assert (server.mountpoint / "snaps/b13").is_dir()
        assert not (server.mountpoint / "snaps/c13").exists()


def test_a_catalog_of_another_repository_is_not_believed(merged: Path, repository: Path) -> None:
    must(repository, "bookmark", "add", "theirs")
    before = must_json(merged, "bookmark", "list")
    (merged / "catalog.db").write_bytes((repository / "catalog.db").read_bytes())
    must(merged, "bookmark", "hold", "b1")
    must(merged, "bookmark", "release", "b1")
    assert must_json(merged, "bookmark", "list") == before
    assert (merged / "catalog.db.bad").exists()


def test_an_index_of_the_whole_is_small(merged: Path) -> None:
    """Derived files are a small part of what they are derived from."""
    status = json.loads(run(merged, "status", "--json").stdout)
    assert status["journal_bytes"] > 2 * MIB
    assert status["index_bytes"] < status["journal_bytes"] // 10

"""``check --read-data 10%`` reads a part, another one each time; a repair writes nothing but what is derived."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.volumes import mark
from vsnapfs.core.errors import IntegrityError
from vsnapfs.core.findings import Check
from vsnapfs.repository import units
from vsnapfs.repository.check import Wanted
from vsnapfs.repository.repository import Repository

SIZE = 256 << 10


@pytest.fixture
def history(repository: Repository, path: Path, memory_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base of four windows, and twelve segments, eight of them with a merged map."""
    monkeypatch.setattr(units, "WINDOW_BYTES", SIZE // 4)
    monkeypatch.setattr("vsnapfs.repository.check.WINDOW_BYTES", SIZE // 4)
    rng = random.Random(3)
    image = memory_path / "disk.img"
    image.write_bytes(rng.randbytes(SIZE))
    repository.volume_add("db0", size_bytes=SIZE)
    repository.volume_add("ext", primary=image)
    for number in range(12):
        mark(repository, "db0", number * 4096, rng.randbytes(40_000), f"b{number}")
        repository.journal.seal()
    while repository.journal.merge_maps():
        pass
    repository.close()
    return path


def part(path: Path, percent: float, seed: int | None = None) -> Check:
    with Repository.open(path, owner=False) as reader:
        return reader.check(wanted=Wanted(percent=percent, seed=seed))


def test_a_part_is_as_large_as_it_was_asked_for(history: Path) -> None:
    largest = SIZE // 2  # a segment is as large as its last batch made it
    for percent in (1, 10, 50, 99):
        found = part(history, percent)
        assert found.seed is not None
        wanted = found.data_bytes * percent / 100
        assert wanted <= found.read_bytes < wanted + largest
        assert found.damages == []
    whole = part(history, 100)
    assert (whole.seed, whole.read_bytes) == (None, whole.data_bytes)


def test_a_seed_chooses_the_same_part_and_others_another(history: Path) -> None:
    """Of what is damaged a part finds what it reads: all runs together find everything, each seed the same again."""
    image = history / "base/00000002.img"
    content = bytearray(image.read_bytes())
    for window in range(4):
        content[window * SIZE // 4 + 5000] ^= 8
    image.write_bytes(content)
    by_seed = {seed: {damage.offset_bytes for damage in part(history, 25, seed).damages} for seed in range(12)}
    assert {seed: {damage.offset_bytes for damage in part(history, 25, seed).damages} for seed in by_seed} == by_seed
    assert len(set(map(frozenset, by_seed.values()))) > 2
    assert set().union(*by_seed.values()) == {window * SIZE // 4 + 4096 for window in range(4)}


def test_structure_is_checked_whole_with_every_part(history: Path) -> None:
    broken = sorted((history / "journal").glob("*.seg"))[4]
    content = bytearray(broken.read_bytes())
    content[4096 + 60] ^= 1
    broken.write_bytes(content)
    for seed in range(4):
        assert {damage.file for damage in part(history, 1, seed).damages} == {f"journal/{broken.name}"}


def spoil(at: int) -> Callable[[Path], None]:
    def flip(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[at] ^= 1
        path.write_bytes(content)

    return flip


NOT_KEPT = ("lock", "catalog.db", "catalog.db-wal", "catalog.db-journal")


def stamps(path: Path) -> dict[str, tuple[bytes, int, int]]:
    """Content, time of change, inode of every file that is not derived, and of what a repair kept."""
    return {
        str(file.relative_to(path)): (file.read_bytes(), file.stat().st_mtime_ns, file.stat().st_ino)
        for file in path.rglob("*")
        if file.is_file() and file.name not in NOT_KEPT and file.suffix != ".map"
    }


def segment(number: int) -> Callable[[Path], Path]:
    return lambda path: sorted((path / "journal").glob("*.seg"))[number]


def named(name: str) -> Callable[[Path], Path]:
    return lambda path: next(path.glob(name))


DAMAGES = {
    "a descriptor": (segment(3), spoil(4096 + 100)),
    "payload": (segment(3), spoil(8192 + 100)),
    "a header": (segment(3), spoil(20)),
    "a trailer": (segment(3), spoil(-2000)),
    "the first section of a footer": (segment(3), spoil(-8192 + 30)),
    "a missing segment": (segment(3), Path.unlink),
    "a segment cut off": (segment(3), lambda path: path.write_bytes(path.read_bytes()[:9000])),
    "the last segment's header": (segment(-1), spoil(20)),
    "a base image": (named("base/*.img"), spoil(5000)),
    "a base's checksum": (named("base/*.idx"), spoil(4096)),
    "a base's map": (named("base/*.idx"), spoil(-20)),
    "a base's header": (named("base/*.idx"), spoil(30)),
    "a missing base": (named("base/*.img"), Path.unlink),
    "a map's header": (named("maps/*.map"), spoil(20)),
    "a map's table": (named("maps/*.map"), spoil(4200)),
    "a map that is cut off": (named("maps/*.map"), lambda path: path.write_bytes(path.read_bytes()[:4000])),
    "a missing map": (named("maps/*.map"), Path.unlink),
    "the catalog's header": (named("catalog.db"), spoil(3)),
    "the catalog's tables": (named("catalog.db"), lambda path: path.write_bytes(path.read_bytes()[:5000])),
    "a missing catalog": (named("catalog.db"), Path.unlink),
    "nothing": (named("catalog.db"), lambda path: None),
}


REFUSED = ("a missing segment", "a segment cut off", "the last segment's header")
"""Nobody changes a repository that is damaged so."""


@pytest.mark.parametrize("what", DAMAGES)
def test_a_repair_touches_only_what_is_derived(history: Path, what: str) -> None:
    which, damage = DAMAGES[what]
    target = which(history)
    sound_map = next((history / "maps").iterdir()).read_bytes()
    damage(target)
    before, spoiled = stamps(history), target.read_bytes() if target.exists() else None
    try:
        with Repository.open(history, owner=True) as repository:
            repository.check(read_data=True, repair=True)
    except IntegrityError:
        assert what in REFUSED
        assert stamps(history) == before
        return
    assert what not in REFUSED
    after = stamps(history)
    assert {name: after[name] for name in before} == before
    kept = after.keys() - before.keys()
    assert all(name.endswith(".bad") for name in kept), kept
    is_derived = target.suffix == ".map" or target.name == "catalog.db"
    if is_derived and spoiled is not None and what != "nothing":
        assert spoiled in {after[name][0] for name in kept}
    assert next(path for path in (history / "maps").iterdir() if path.suffix == ".map").read_bytes() == sound_map
    with Repository.open(history, owner=True) as repository:
        assert not any(damage.derived for damage in repository.check(read_data=True).damages)


@pytest.mark.parametrize("at", [100, 4096 + 100], ids=["descriptor", "payload"])
def test_a_committed_end_that_is_damaged_is_not_taken_for_a_torn_one(history: Path, at: int) -> None:
    """The catalog knows that it was committed: nobody cuts it off."""
    with Repository.open(history, owner=True) as repository:
        mark(repository, "db0", 0, b"newest" * 100, "newest")
        length = repository.journal.segments()[12].size_bytes
        mark(repository, "db0", 8192, os.urandom(4096), "last")
    active = segment(-1)(history)
    content = bytearray(active.read_bytes())
    content[length + at] ^= 1
    del content[length + 2 * 4096 :]
    active.write_bytes(content)
    before = stamps(history)
    for _ in range(2):
        with pytest.raises(IntegrityError, match="the journal ends with"):
            Repository.open(history, owner=True)
    assert stamps(history) == before
    with Repository.open(history, owner=False) as reader:
        (damage,) = reader.check().damages
    assert set(damage.costs) == {"last/db0", "last/ext"}

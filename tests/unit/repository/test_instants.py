"""States of volumes, the instants between two of them, and what a record wrote: against a list of the writes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.support.pruned import grow, opened
from tests.support.volumes import content_at
from vsnapfs.core.errors import NotFoundError, PointGoneError
from vsnapfs.repository.instants import WriteRecord
from vsnapfs.repository.repository import Repository

MIB = 1 << 20
MOST = 1 << 20


class Written:
    """Two volumes and writes of chance in them. ``seqnos``: those that wrote, by the name of the volume."""

    def __init__(self, repository: Repository, seed: int, writes: int = 200) -> None:
        chance = random.Random(seed)
        self.ids = {name: repository.volume_add(name, size_bytes=MIB).id for name in ("a", "b")}
        self.seqnos: dict[str, list[int]] = {"a": [], "b": []}
        self.records: list[WriteRecord] = []
        for number in range(writes):
            name, offset, length = chance.choice("ab"), chance.randrange(MIB - 9000), chance.randrange(1, 9000)
            if chance.random() < 0.2:
                seqno = repository.journal.zero(self.ids[name], offset, length)
            else:
                seqno = repository.journal.write(self.ids[name], offset, b"\1" + chance.randbytes(length)[1:])
            self.seqnos[name].append(seqno)
            if number % 17 == 0:
                repository.bookmark_add(f"m{number}")
        repository.bookmark_add("last")

    def of(self, *names: str) -> list[int]:
        return sorted(seqno for name in names for seqno in self.seqnos[name])


@pytest.mark.parametrize("names", [("a",), ("b",), ("a", "b")])
def test_instants_are_the_writes_of_the_volumes_alone(repository: Repository, names: tuple[str, ...]) -> None:
    written = Written(repository, 1)
    ids = frozenset(written.ids[name] for name in names)
    all_of_them = written.of(*names)
    first, last = all_of_them[0], all_of_them[-1]
    assert repository.instants(ids, 0, last + 1, MOST) == all_of_them
    assert repository.instants(ids, first, last, MOST) == all_of_them[1:-1], "both ends are left out"
    assert repository.instants(ids, last, last + 1, MOST) == []


def test_of_too_many_instants_some_are_told_evenly(repository: Repository) -> None:
    written = Written(repository, 2)
    ids, everything = frozenset(written.ids.values()), written.of("a", "b")
    for most in (1, 2, 7, 50, 199, 200):
        some = repository.instants(ids, 0, everything[-1] + 1, most)
        assert most // 2 <= len(some) <= most
        stride = everything.index(some[1]) if len(some) > 1 else len(everything)
        assert some == everything[::stride], most


def test_points_of_one_state_hold_the_same(repository: Repository) -> None:
    written = Written(repository, 3)
    for name in ("a", "b"):
        ids = [written.ids[name]]
        for bookmark in repository.bookmarks():
            point = repository.resolve(bookmark.name)
            state = repository.state(ids, point)
            before = [seqno for seqno in written.seqnos[name] if seqno <= point.seqno]
            assert state == (before[-1] if before else repository.volume(name).added_seqno)
            if state in written.seqnos[name]:
                assert content_at(repository, name, f"@{state}") == content_at(repository, name, bookmark.name)
    point = repository.resolve("last")
    assert repository.state(written.ids.values(), point) == written.of("a", "b")[-1]


def test_a_volume_that_was_not_there_yet_has_no_state(repository: Repository) -> None:
    first = repository.volume_add("a", size_bytes=MIB)
    repository.bookmark_add("before")
    second = repository.volume_add("b", size_bytes=MIB)
    with pytest.raises(NotFoundError):
        repository.state([first.id, second.id], repository.resolve("before"))


def test_a_record_is_told_as_it_was_written(repository: Repository) -> None:
    """One that has blocks of zeros in it, and so several pieces, too."""
    volume = repository.volume_add("a", size_bytes=MIB).id
    content = b"\1" * 5000 + bytes(20000) + b"\2" * 3000
    told = {
        repository.journal.write(volume, 777, b"x"): (777, 1, False),
        repository.journal.write(volume, 10_000, content): (10_000, len(content), False),
        repository.journal.zero(volume, 4096, 500_000): (4096, 500_000, True),
        repository.journal.write(volume, 8192, bytes(8192)): (8192, 8192, True),
    }
    repository.bookmark_add("end")
    for seqno, (offset, length, zero) in told.items():
        record = repository.write_record(seqno)
        assert record == WriteRecord(seqno, repository.journal.time_of(seqno), volume, offset, length, zero)
    with pytest.raises(PointGoneError, match="is not a write"):
        repository.write_record(repository.bookmark("end").seqno)


def test_where_only_bookmarks_are_left_there_are_no_instants(path: Path) -> None:
    with opened(path, 'protection_window = "1ms"\nkeep_last = 100') as repository:
        chance = random.Random(4)
        grow(repository, chance, [f"m{number}" for number in range(20)], 100)
        ids = frozenset(volume.id for volume in repository.volumes())
        before = repository.instants(ids, 0, 1 << 62, MOST)
        repository.prune()
        after = repository.instants(ids, 0, 1 << 62, MOST)
        assert after == [seqno for seqno in before if seqno >= after[0]] if after else True
        assert len(after) < len(before)
        for seqno in after:
            repository.resolve(f"@{seqno}")
        for bookmark in repository.bookmarks():
            repository.state(ids, repository.resolve(bookmark.name))

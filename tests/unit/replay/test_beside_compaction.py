"""A replay that is open keeps the records that it reads, whatever a prune makes of them; one that comes later is told they are gone."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.support.pruned import VOLUMES, grow, opened
from tests.support.volumes import content_at, put
from tests.support.waiting import eventually
from vsnapfs.binding import Replay
from vsnapfs.core.errors import PointGoneError
from vsnapfs.repository.repository import Repository

pytestmark = pytest.mark.unit

RETENTION = 'protection_window = "1ms"\nkeep_last = 2'
WINDOW_NS = 1_000_000


@pytest.fixture
def path(memory_path: Path) -> Path:
    path = memory_path / "repository"
    Repository.create(path)
    with opened(path, RETENTION, segment_size="64K") as repository:
        grow(repository, random.Random(1), ("one", "two", "three"), writes=100)
        repository.journal.seal()
        eventually(lambda: behind_the_window(repository, "three"), "a bookmark to be older than the window")
    return path


def behind_the_window(repository: Repository, bookmark: str) -> bool:
    """Time is that of records: one more, and is the bookmark old enough?"""
    put(repository, "db0", 0, b"later")
    repository.journal.commit()
    return repository.journal.facts().last_time_ns > repository.bookmark(bookmark).time_ns + 2 * WINDOW_NS


def again(repository: Repository, records: Replay, begin: str, target: Path) -> dict[str, bytes]:
    """All volumes from a bookmark on, as a replay makes them."""
    numbers = {repository.volume(name).id: name for name in VOLUMES}
    files = {number: target / name for number, name in numbers.items()}
    for number, file in files.items():
        file.write_bytes(content_at(repository, numbers[number], begin))
    for pieces in records.pieces():
        for piece in pieces:
            with files[piece.volume].open("r+b") as target_file:
                records.apply([piece], target_file.fileno())
    return {numbers[number]: file.read_bytes() for number, file in files.items()}


@pytest.mark.parametrize("owner", [True, False], ids=["owner", "reader"])
def test_a_replay_keeps_what_it_reads(path: Path, tmp_path: Path, owner: bool) -> None:
    with opened(path, RETENTION, segment_size="64K") as repository, Repository.open(path, owner=False) as reader:
        since, until = (repository.resolve(name).seqno for name in ("two", "three"))
        expected = {name: content_at(repository, name, "three") for name in VOLUMES}
        chosen = repository if owner else reader
        with Replay(chosen.journal, since, until) as records:
            assert repository.prune().waiting_files > 0
            with pytest.raises(PointGoneError, match="only bookmarks are kept"):
                Replay(repository.journal, since, until)
            assert again(chosen, records, "two", tmp_path) == expected
        reader.refresh()
        with pytest.raises(PointGoneError, match="only bookmarks are kept"):
            Replay(reader.journal, since, until)
        assert repository.journal.superseded() == 0

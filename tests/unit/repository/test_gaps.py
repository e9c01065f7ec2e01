"""A gap of the journal, from a full disk to the record that ends it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.devices import mounted
from tests.support.pruned import opened
from tests.support.volumes import content_at, put
from vsnapfs.binding import Journal
from vsnapfs.core.errors import BusyError, NoSpaceError
from vsnapfs.repository.repository import Repository

MIB = 1 << 20
LATE = b"on its way"

pytestmark = [pytest.mark.unit, pytest.mark.requires_root]


def looks(monkeypatch: pytest.MonkeyPatch, blind: int) -> list[int]:
    """What the journal is asked for changes from; the first so many looks come before a write that was on its way is noted."""
    seen: list[int] = []
    look = Journal.next_changed

    def next_changed(journal: Journal, volume: int, from_bytes: int) -> tuple[int, int] | None:
        seen.append(from_bytes)
        return None if len(seen) <= blind else look(journal, volume, from_bytes)

    monkeypatch.setattr(Journal, "next_changed", next_changed)
    return seen


def test_a_write_that_was_on_its_way_is_compared_too(memory_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It took the journal for failed, and notes what it changes when the first comparison is past it."""
    with mounted(Path("tmpfs"), memory_path / "small", options="size=16M", kind="tmpfs") as top:
        path = top / "r"
        Repository.create(path)
        with opened(path, "", reserve="2M") as repository:
            repository.volume_add("db0", size_bytes=MIB)
            filler = top / "filler"
            filler.write_bytes(bytes(shutil.disk_usage(top).free - MIB))  # the rest is less than the reserve
            put(repository, "db0", 0, LATE)
            with pytest.raises(NoSpaceError):
                repository.journal.commit()
            put(repository, "db0", 0, LATE)
            assert repository.journal.facts().gap
            filler.unlink()
            blind = looks(monkeypatch, 100)
            with pytest.raises(BusyError, match="may still differ"):
                repository.gap_close()
            assert 1 < len(blind) < 100
            assert repository.journal.facts().gap
            monkeypatch.undo()
            looks(monkeypatch, 1)
            assert repository.gap_close() > 0
            assert not repository.journal.facts().gap
            repository.bookmark_add("after")
            assert content_at(repository, "db0", "after")[: len(LATE)] == LATE

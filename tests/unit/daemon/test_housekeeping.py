"""What the server does once a second: commit what lies about, merge after a seal, and tell what became worse, once."""

from __future__ import annotations

from typing import Any, cast

import pytest

from vsnapfs.binding import JournalFacts
from vsnapfs.core.errors import PointGoneError, StoreError
from vsnapfs.core.model import Volume
from vsnapfs.daemon import housekeeping as housekeeping_module
from vsnapfs.daemon.housekeeping import Housekeeping
from vsnapfs.policy.retention import RetentionSettings
from vsnapfs.repository.repository import Repository
from vsnapfs.repository.settings import Settings

pytestmark = pytest.mark.unit

QUIET = JournalFacts._make([0] * len(JournalFacts._fields))


class Journal:
    """Facts as the test sets them; keeps what it was told to do."""

    def __init__(self) -> None:
        self.set = dict[str, int]()
        self.done: list[str] = []
        self.merges = 0
        self.commit_fails = False

    def facts(self) -> JournalFacts:
        return QUIET._replace(**cast("Any", self.set))

    def commit(self) -> None:
        self.done.append("commit")
        if self.commit_fails:
            self.set |= {"failed": -5}
            raise StoreError("disk gone")

    def merge_maps(self) -> bool:
        self.done.append("merge")
        self.merges -= 1
        return self.merges > 0


class OneRepository:
    """Keeps what it is told of."""

    def __init__(self) -> None:
        self.journal = Journal()
        self.told: list[tuple[str, str, dict[str, Any]]] = []
        self.percent: int | None = None
        self.settings = Settings(retention=RetentionSettings(protection_window="7d"))

    def tell(self, kind: str, subject: str = "", **detail: Any) -> None:
        self.told.append((kind, subject, detail))

    def save_left(self) -> None:
        pass

    def volumes(self) -> list[Volume]:
        return []

    def window_percent(self) -> int | None:
        return self.percent

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _, _ in self.told]


@pytest.fixture
def repository() -> OneRepository:
    return OneRepository()


@pytest.fixture
def journal(repository: OneRepository) -> Journal:
    return repository.journal


@pytest.fixture
def housekeeping(repository: OneRepository) -> Housekeeping:
    return Housekeeping(cast("Repository", repository))


def test_nothing_to_do(housekeeping: Housekeeping, journal: Journal) -> None:
    housekeeping.once()
    assert journal.done == []


def test_what_is_pending_is_committed(housekeeping: Housekeeping, journal: Journal) -> None:
    journal.set = {"pending": 1}
    housekeeping.once()
    assert journal.done == ["commit"]


def test_after_a_seal_maps_are_merged_until_none_is_left(housekeeping: Housekeeping, journal: Journal) -> None:
    journal.set, journal.merges = {"segments": 9}, 3
    housekeeping.once()
    housekeeping.once()
    assert journal.done == ["merge"] * 3


def test_a_failure_is_told_once_and_nothing_is_committed_any_more(
    housekeeping: Housekeeping, repository: OneRepository, journal: Journal
) -> None:
    journal.set, journal.commit_fails = {"pending": 1}, True
    housekeeping.once()
    housekeeping.once()
    assert journal.done == ["commit"]
    assert repository.kinds == ["journal_failed", "housekeeping_failed"]


def test_a_failure_that_comes_again_is_told_once(
    housekeeping: Housekeeping, repository: OneRepository, journal: Journal
) -> None:
    """A primary that failed: the journal goes on, and each commit says it again."""
    journal.set, journal.commit_fails = {"pending": 1}, True
    for _ in range(3):
        housekeeping.once()
        journal.set["failed"] = 0
        journal.set["failed_volume"] = 7
    assert repository.kinds.count("housekeeping_failed") == 1
    assert journal.done == ["commit"] * 3


def test_a_failure_that_the_data_plane_met_is_told(
    housekeeping: Housekeeping, repository: OneRepository, journal: Journal
) -> None:
    journal.set = {"failed_volume": 7}
    housekeeping.once()
    housekeeping.once()
    assert repository.told == [("primary_failed", "7", {})]


def test_a_clock_that_went_back_is_told_each_time(
    housekeeping: Housekeeping, repository: OneRepository, journal: Journal
) -> None:
    for jumps in (0, 1, 1, 2):
        journal.set = {"clock_jumps": jumps}
        housekeeping.once()
    assert repository.told == [("clock_jumped", "", {"clock_jumps": 1}), ("clock_jumped", "", {"clock_jumps": 2})]


def test_a_window_that_gets_short_and_well_again(
    housekeeping: Housekeeping, repository: OneRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping_module, "WINDOW_EVERY_S", 0.0)
    for percent in (None, 100, 84, 60, 85, 100):
        repository.percent = percent
        housekeeping.once()
    assert repository.told == [
        ("window_short", "", {"percent": 84, "promised": "7d"}),
        ("window_well", "", {"percent": 85, "promised": "7d"}),
    ]


def test_the_window_is_not_looked_at_each_second(housekeeping: Housekeeping, repository: OneRepository) -> None:
    repository.percent = 100
    housekeeping.once()
    repository.percent = 10
    housekeeping.once()
    assert repository.told == []


def test_a_window_that_cannot_be_looked_at_is_told_of_and_ends_nothing(
    repository: OneRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone() -> int | None:
        raise PointGoneError("@7 is gone")

    monkeypatch.setattr(repository, "window_percent", gone)
    Housekeeping(cast("Repository", repository)).once()
    assert repository.kinds == ["housekeeping_failed"]

"""What the server does once a second: commit what lies about, merge after a seal, and tell what became worse, once."""

from __future__ import annotations

from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from vsnapfs.binding import JournalFacts
from vsnapfs.core.errors import StoreError
from vsnapfs.daemon.server import Housekeeping
from vsnapfs.repository.repository import Repository

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
    def __init__(self) -> None:
        self.journal = Journal()


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture
def housekeeping(journal: Journal) -> Housekeeping:
    repository = OneRepository()
    repository.journal = journal
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


def test_a_failure_is_told_once_and_nothing_is_committed_any_more(housekeeping: Housekeeping, journal: Journal) -> None:
    journal.set, journal.commit_fails = {"pending": 1}, True
    with capture_logs() as logs:
        housekeeping.once()
        housekeeping.once()
    assert journal.done == ["commit"]
    assert [entry["event"] for entry in logs] == [
        "writes are not protected any more, see vsnapfs status",
        "housekeeping failed",
    ]


def test_a_failure_that_comes_again_is_told_once(housekeeping: Housekeeping, journal: Journal) -> None:
    """A primary that failed: the journal goes on, and each commit says it again."""
    journal.set, journal.commit_fails = {"pending": 1}, True
    with capture_logs() as logs:
        for _ in range(3):
            housekeeping.once()
            journal.set["failed"] = 0
            journal.set["failed_volume"] = 7
    assert [entry["event"] for entry in logs].count("housekeeping failed") == 1
    assert journal.done == ["commit"] * 3


def test_a_failure_that_the_data_plane_met_is_told(housekeeping: Housekeeping, journal: Journal) -> None:
    journal.set = {"failed_volume": 7}
    with capture_logs() as logs:
        housekeeping.once()
        housekeeping.once()
    assert [(entry["log_level"], entry["volume"]) for entry in logs] == [("error", 7)]


def test_a_clock_that_went_back_is_told_each_time(housekeeping: Housekeeping, journal: Journal) -> None:
    with capture_logs() as logs:
        for jumps in (0, 1, 1, 2):
            journal.set = {"clock_jumps": jumps}
            housekeeping.once()
    assert [entry["clock_jumps"] for entry in logs] == [1, 2]

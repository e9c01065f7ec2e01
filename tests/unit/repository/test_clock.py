"""A clock that is set wrong drops nothing: ages are told by the journal, and by no clock that jumped."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.support.pruned import grow, opened, sums, write_some
from vsnapfs.binding import RecordKind
from vsnapfs.catalog.bodies import BookmarkNamed
from vsnapfs.core.errors import BusyError
from vsnapfs.core.times import NS_PER_S
from vsnapfs.repository.clock import Clock
from vsnapfs.repository.repository import Repository

YEAR_NS = 365 * 86400 * NS_PER_S
RULES = 'protection_window = "1ms"\nkeep_last = 1'


class Times:
    """What the clock says, and how much time the system has counted."""

    def __init__(self, wall_ns: int) -> None:
        self.wall_ns = wall_ns
        self.counted_ns = 7

    def clock(self) -> Clock:
        return Clock(lambda: self.wall_ns, lambda: self.counted_ns)


def test_time_that_passes_is_believed() -> None:
    times = Times(1000)
    clock = times.clock()
    times.wall_ns, times.counted_ns = 1500, 507
    assert (clock.believed_ns(), clock.set_forward_ns()) == (1500, 0)


def test_a_clock_that_is_set_forward_is_not() -> None:
    times = Times(1000)
    clock = times.clock()
    times.wall_ns, times.counted_ns = 1500 + YEAR_NS, 507
    assert (clock.believed_ns(), clock.set_forward_ns()) == (1500, YEAR_NS)
    times.wall_ns -= YEAR_NS
    assert (clock.believed_ns(), clock.set_forward_ns()) == (1500, 0)
    assert Times(1500 + YEAR_NS).clock().believed_ns() == 1500 + YEAR_NS, (
        "whoever opens the repository again has seen to it"
    )


def test_a_clock_that_is_set_back_is_followed() -> None:
    times = Times(YEAR_NS + 1000)
    clock = times.clock()
    times.wall_ns = 1000
    assert clock.believed_ns() == 1000


def full(path: Path) -> Repository:
    """Bookmarks and writes of this moment."""
    with opened(path, RULES) as repository:
        grow(repository, random.Random(1), [f"b{number}" for number in range(12)], 40)
        write_some(repository, random.Random(2), 300)
        repository.journal.commit()
        repository.bookmark_hold("b0", until="2200-01-01")
    return Repository.open(path, owner=True)


@pytest.mark.parametrize("opened_behind_ns", [YEAR_NS, 60 * YEAR_NS], ids=["a year", "before 1970"])
def test_records_of_a_time_to_come_make_nothing_old(path: Path, opened_behind_ns: int) -> None:
    """The clock was ahead when they were made, and is right now; or it is ahead still, and was right at the opening."""
    with full(path) as repository:
        before = sums(repository)
        now_ns = time.time_ns()
        times = Times(now_ns - opened_behind_ns)
        repository._parts.clock = times.clock()
        assert repository.prune().removed == 0
        times.wall_ns = now_ns
        preview = repository.prune_preview()
        assert (preview.removed, preview.before) == (0, preview.after)
        assert repository.prune().removed == 0
        assert sums(repository) == before
        repository._parts.clock = Clock()
        assert repository.prune().removed == 10, "all but the one that is held and the newest"


def test_a_hold_does_not_end_by_records_of_a_time_to_come(path: Path) -> None:
    with full(path) as repository:
        repository._parts.clock = Times(time.time_ns() - YEAR_NS).clock()
        end_ns = repository.journal.facts().last_time_ns
        repository._parts.record(RecordKind.BOOKMARK_HOLD, BookmarkNamed("b1", "", end_ns), a=1)
        with pytest.raises(BusyError, match="held"):
            repository.bookmark_remove("b1")
        repository._parts.clock = Clock()
        repository.bookmark_remove("b1")


def test_status_tells_of_it(path: Path) -> None:
    with full(path) as repository:
        assert repository.status().warnings == []
        times = Times(time.time_ns() - YEAR_NS)
        repository._parts.clock = times.clock()
        assert ["365 d after the clock" in warning for warning in repository.status().warnings] == [True]
        times.wall_ns += YEAR_NS
        assert ["set forward by 365 d" in warning for warning in repository.status().warnings] == [True]
        assert repository.status().protected

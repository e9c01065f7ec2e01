"""What else happened to the volumes, and what that means for writing their records to a branch."""

from __future__ import annotations

import pytest

from vsnapfs.binding import Event, RecordKind, ReplayPiece
from vsnapfs.core.errors import UsageError
from vsnapfs.replay.choice import Choice
from vsnapfs.replay.plan import Plan
from vsnapfs.replay.reach import Reach, notes, refuse_growth, refuse_strangers

pytestmark = pytest.mark.unit

NAMES = {1: "db0", 2: "log"}
SIZES = {1: 8192}
GAP = (
    "from 2001-09-09T01:46:39.000000000Z to 2001-09-09T01:46:40.000000000Z the journal knows only what differed afterwards "
    "(up to @20), not who wrote it"
)


def event(kind: RecordKind, *, volume: int = 1, a: int = 0, b: int = 0) -> Event:
    return Event(20, 10**18, kind, volume, a, b, b"")


def reach(*events: Event) -> Reach:
    return Reach(10, SIZES, NAMES, list(events))


def planned(*pieces: tuple[int, int, int]) -> Plan:
    """Of (volume, offset, length)."""
    plan = Plan(Choice())
    plan.take([ReplayPiece(11, 1, volume, offset, length, 0, 0) for volume, offset, length in pieces])
    plan.end()
    return plan


def test_a_volume_that_grew_is_refused_unless_it_is_left_out() -> None:
    grown = reach(event(RecordKind.VOLUME_RESIZE, a=8192, b=8704))
    with pytest.raises(UsageError, match=r"db0 grew to 8.5 KiB by @20.*--to @19"):
        refuse_growth(grown, Choice())
    refuse_growth(grown, Choice(volumes=[1]))
    refuse_growth(grown, Choice(only=[2]))


def test_a_volume_that_shrank_is_told_of() -> None:
    shrunk = reach(event(RecordKind.VOLUME_RESIZE, a=8192, b=512), event(RecordKind.VOLUME_RESIZE, a=512, b=8192))
    refuse_growth(shrunk, Choice())
    assert notes(shrunk, Choice())[0] == (
        "volume db0 was resized to 512 B by @20: the branch keeps 8 KiB, zeros behind that"
    )
    assert notes(shrunk, Choice(volumes=[1])) == []


def test_a_volume_that_came_later_is_refused() -> None:
    refuse_strangers(reach(), planned((1, 0, 8192)))
    with pytest.raises(UsageError, match=r"log was added after @10.*--skip-volume log"):
        refuse_strangers(reach(), planned((2, 0, 1)))


def test_a_write_behind_the_end_is_refused() -> None:
    with pytest.raises(UsageError, match="the write @11 goes beyond the end of volume db0"):
        refuse_strangers(reach(), planned((1, 8191, 2)))


def test_removals_and_gaps_are_told_of() -> None:
    told = notes(
        reach(event(RecordKind.VOLUME_REMOVE), event(RecordKind.GAP_END, volume=0, a=10**18 - 10**9)), Choice()
    )
    assert told == [
        "volume db0 was removed by @20: the branch keeps it",
        GAP,
    ]

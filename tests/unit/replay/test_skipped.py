"""Which bytes were last written by what is left out, and what later writes meet of it; and random ones against an array."""

from __future__ import annotations

import random

import pytest

from vsnapfs.binding import ReplayPiece
from vsnapfs.replay.choice import Choice, Range, Span
from vsnapfs.replay.plan import CONFLICTS_MAX, Meeting, Plan, Torn, kept_runs
from vsnapfs.replay.skipped import Extent, Seen, SkippedMap

pytestmark = pytest.mark.unit

BLOCK = 4096


def piece(seqno: int, offset_bytes: int, length_bytes: int, *, volume: int = 1, block: int = 0) -> ReplayPiece:
    return ReplayPiece(seqno, seqno * 10, volume, offset_bytes, length_bytes, block, 0)


def planned(choice: Choice, *pieces: ReplayPiece) -> Plan:
    plan = Plan(choice)
    plan.take(pieces)
    plan.end()
    return plan


def test_a_write_over_what_was_left_out() -> None:
    plan = planned(
        Choice(seqnos=[Span(1, 1)]), piece(1, 0, 2 * BLOCK), piece(2, BLOCK, 2 * BLOCK), piece(3, BLOCK, BLOCK)
    )
    assert plan.conflicts == [Meeting(2, 1, 1, BLOCK, 2 * BLOCK, "over")]  # @3 saw what @2 had written
    assert plan.volumes[1].skipped.bytes == BLOCK
    assert (plan.applied_records, plan.skipped_records, plan.split_records) == (2, 1, 0)
    assert (plan.applied_bytes, plan.skipped_bytes) == (3 * BLOCK, 2 * BLOCK)


def test_a_write_before_what_was_left_out_is_none() -> None:
    assert planned(Choice(seqnos=[Span(2, 2)]), piece(1, 0, BLOCK), piece(2, 0, BLOCK)).conflicts == []


def test_a_write_of_another_volume_is_none() -> None:
    plan = planned(Choice(seqnos=[Span(1, 1)]), piece(1, 0, BLOCK), piece(2, 0, BLOCK, volume=2))
    assert plan.conflicts == []


def test_the_newest_of_those_left_out_is_named() -> None:
    plan = planned(Choice(seqnos=[Span(1, 2)]), piece(1, 0, BLOCK), piece(2, 0, 512), piece(3, 0, BLOCK))
    assert plan.conflicts == [Meeting(3, 2, 1, 0, 512, "over"), Meeting(3, 1, 1, 512, BLOCK, "over")]


def test_a_part_of_a_block_beside_what_was_left_out() -> None:
    plan = planned(Choice(seqnos=[Span(1, 1)]), piece(1, 512, 512), piece(2, 0, 512), piece(3, BLOCK, 512))
    assert plan.conflicts == [Meeting(2, 1, 1, 512, 1024, "beside")]
    assert plan.counts == {"over": 0, "beside": 1}


def test_a_record_is_no_conflict_with_its_own_parts() -> None:
    choice = Choice(ranges={1: [Range(1000, 1500)]})
    plan = planned(choice, piece(1, 0, BLOCK), piece(2, 0, BLOCK))
    assert plan.conflicts == [Meeting(2, 1, 1, 1000, 1500, "beside")]
    assert (plan.applied_records, plan.skipped_records, plan.split_records) == (2, 0, 2)


def test_what_is_beside_two_parts_of_one_record_is_told_once() -> None:
    skipped = SkippedMap()
    skipped.skip(0, BLOCK, 7)
    assert skipped.keep([(0, 1000), (1500, BLOCK)]) == [
        Seen(Extent(0, 1000, 7), "over"),
        Seen(Extent(1500, BLOCK, 7), "over"),
        Seen(Extent(1000, 1500, 7), "beside"),
    ]


def test_a_record_in_several_pieces_counts_once() -> None:
    plan = planned(Choice(), piece(1, 0, BLOCK), piece(1, BLOCK, BLOCK), piece(2, 0, 1))
    assert plan.applied_records == 2


def test_where_it_ends_is_known_with_the_record() -> None:
    plan = planned(Choice(seqnos=[Span(3, 3)]), piece(1, 0, 10), piece(2, 5, 10), piece(3, 100, 10), piece(4, 3, 12))
    assert (plan.volumes[1].end_bytes, plan.volumes[1].end_seqno) == (15, 2)


def test_very_many_conflicts_are_counted_and_not_kept() -> None:
    plan = Plan(Choice(seqnos=[Span(1, 1)]))
    plan.take([piece(1, 0, 1024)])
    plan.take(piece(seqno, 1024, 1) for seqno in range(2, CONFLICTS_MAX + 4))
    assert len(plan.conflicts) == CONFLICTS_MAX
    assert plan.counts["beside"] == CONFLICTS_MAX + 2


def test_a_write_that_may_have_been_torn_is_told() -> None:
    """In either order; not one that is elsewhere, or later, or of another volume, and not two that are left out."""
    left_out = Choice(seqnos=[Span(2, 2), Span(5, 6), Span(8, 8), Span(11, 11)])
    pieces = [piece(1, 0, 8), piece(2, 8, 8), piece(3, 16, 8)]
    pieces += [piece(4, 100, 8), piece(5, 8, 8), piece(6, 16, 8), piece(7, 24, 8, volume=2)]
    pieces += [piece(8, 0, 8), piece(9, 8, 8)._replace(time_ns=10**9), piece(10, 0, 8), piece(11, 9, 8)]
    plan = planned(left_out, *pieces)
    assert plan.torn == [Torn(1, 2, 1), Torn(3, 2, 1)]


def test_runs_are_of_one_volume_and_in_order() -> None:
    choice = Choice(seqnos=[Span(3, 3)], ranges={2: [Range(0, 100)]})
    pieces = [piece(1, 0, 8), piece(2, 8, 8), piece(3, 0, 8), piece(4, 50, 100, volume=2), piece(5, 0, 8)]
    runs = [[(each.seqno, each.offset_bytes, each.length_bytes) for each in run] for run in kept_runs(choice, pieces)]
    assert runs == [[(1, 0, 8), (2, 8, 8)], [(4, 100, 50)], [(5, 0, 8)]]


def test_a_part_of_a_piece_lies_where_its_block_does() -> None:
    whole = piece(1, BLOCK + 100, 3 * BLOCK, block=9)
    assert whole.part(BLOCK + 200, BLOCK + 300).block == 9
    assert whole.part(2 * BLOCK, 2 * BLOCK + 1).block == 10
    assert whole.part(3 * BLOCK + 5, 4 * BLOCK).block == 11
    assert piece(1, 0, 3 * BLOCK).part(BLOCK, 2 * BLOCK).block == 0


@pytest.mark.parametrize("seed", range(20))
def test_a_map_is_what_an_array_says(seed: int) -> None:
    rng = random.Random(seed)
    skipped, array = SkippedMap(), [0] * 300
    for seqno in range(1, 200):
        start = rng.randrange(299)
        end = rng.randrange(start + 1, min(300, start + 60) + 1)
        if rng.random() < 0.5:
            skipped.skip(start, end, seqno)
            array[start:end] = [seqno] * (end - start)
        else:
            seen = skipped.keep([(start, end)])
            over = {at: each.extent.seqno for each in seen if each.kind == "over" for at in range(*each.extent[:2])}
            assert over == {at: array[at] for at in range(start, end) if array[at]}
            array[start:end] = [0] * (end - start)
            beside = {at: each.extent.seqno for each in seen if each.kind == "beside" for at in range(*each.extent[:2])}
            assert beside == {at: wrote for at, wrote in enumerate(array) if wrote and not start <= at < end}
        assert skipped.bytes == sum(1 for wrote in array if wrote)

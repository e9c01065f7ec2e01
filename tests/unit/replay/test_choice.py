"""What is left out: how it is written, and what it means for a record."""

from __future__ import annotations

import pytest

from vsnapfs.core.errors import UsageError
from vsnapfs.replay.choice import Choice, Part, Range, Span, parse_range, parse_seqnos, parse_times

pytestmark = pytest.mark.unit

NOW_NS = 10**18


@pytest.mark.parametrize(("text", "span"), [("@7", Span(7, 7)), ("@7..@9", Span(7, 9)), ("@7..@7", Span(7, 7))])
def test_records(text: str, span: Span) -> None:
    assert parse_seqnos(text) == span


@pytest.mark.parametrize(
    "text", ["7", "7..9", "@7..9", "@9..@7", "@", "before", "@7..", "..@7", "@7...@9", "-5min", ""]
)
def test_what_names_no_records(text: str) -> None:
    with pytest.raises(UsageError):
        parse_seqnos(text)


def test_times() -> None:
    assert parse_times("1970-01-01T00:00:01Z..1970-01-01T00:00:02.5Z", NOW_NS) == Span(10**9, 25 * 10**8)
    assert parse_times("-5min..-2min", NOW_NS) == Span(NOW_NS - 300 * 10**9, NOW_NS - 120 * 10**9)


@pytest.mark.parametrize(
    "text", ["", "-5min", "-2min..-5min", "@1..@2", "a..b", "1970-01-01T00:00:01Z", "-5min..-4min..-3min"]
)
def test_what_is_no_span_of_time(text: str) -> None:
    with pytest.raises(UsageError):
        parse_times(text, NOW_NS)


def test_ranges() -> None:
    assert parse_range("db0:1M+4K") == ("db0", Range(1 << 20, (1 << 20) + 4096))
    assert parse_range("a:b:512+1") == ("a:b", Range(512, 513))


@pytest.mark.parametrize("text", ["db0", "db0:4K", "db0:+4K", "db0:4K+", "db0:4K+0", ":0+1", "db0:-1+1", "db0:0+1..2"])
def test_what_is_no_range(text: str) -> None:
    with pytest.raises(UsageError):
        parse_range(text)


def test_nothing_chosen_keeps_all() -> None:
    assert list(Choice().parts(1, 1, 1, 0, 10)) == [Part(0, 10, True)]


def test_both_ends_of_a_span_are_left_out() -> None:
    choice = Choice(seqnos=[Span(3, 5)], times=[Span(100, 200)])
    assert [seqno for seqno in range(1, 8) if choice.keeps(seqno, 0, 1)] == [1, 2, 6, 7]
    assert [time for time in (99, 100, 200, 201) if choice.keeps(1, time, 1)] == [99, 201]


def test_volumes() -> None:
    assert [volume for volume in (1, 2, 3) if Choice(volumes=[2]).takes(volume)] == [1, 3]
    assert [volume for volume in (1, 2, 3) if Choice(only=[2]).takes(volume)] == [2]
    assert [volume for volume in (1, 2, 3) if Choice(only=[2, 3], volumes=[2]).takes(volume)] == [3]


def test_a_record_that_is_partly_in_ranges_is_kept_in_parts() -> None:
    choice = Choice(ranges={1: [Range(10, 20), Range(15, 30), Range(30, 31), Range(50, 60)]})
    assert list(choice.parts(1, 1, 1, 0, 55)) == [
        Part(0, 10, True),
        Part(10, 31, False),
        Part(31, 50, True),
        Part(50, 55, False),
    ]
    assert list(choice.parts(1, 1, 1, 12, 18)) == [Part(12, 18, False)]
    assert list(choice.parts(1, 1, 2, 12, 18)) == [Part(12, 18, True)]

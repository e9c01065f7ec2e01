"""Times: nothing is lost between nanoseconds and text."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsnapfs.core.errors import UsageError
from vsnapfs.core.times import TIME_NS_MAX, iso, parse_iso

NOON_NS = 1795435200 * 10**9  # 2026-11-23T12:00:00Z


@given(st.integers(0, TIME_NS_MAX))
def test_text_and_back(time_ns: int) -> None:
    assert parse_iso(iso(time_ns)) == time_ns


def test_nine_digits_and_utc() -> None:
    assert iso(NOON_NS + 500_000_000) == "2026-11-23T12:00:00.500000000Z"


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-23T12:00:00Z",
        "2026-11-23 12:00Z",
        "2026-11-23T13:00:00.000+01:00",
        "2026-11-23T13:00+0100",
        "2026-11-23T13:00+01",
        "2026-11-23T06:30:00-05:30",
    ],
)
def test_every_way_to_write_noon(text: str) -> None:
    assert parse_iso(text) == NOON_NS


def test_without_zone_it_is_local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert parse_iso("2026-11-23T21:00") == NOON_NS
        assert parse_iso("2026-11-23") == NOON_NS - 21 * 3600 * 10**9
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "text",
    [
        "yesterday",
        "2026-11-23T",
        "2026-11-23T10",
        "2026-11-23T25:00",
        "2026-13-01",
        "2026-11-23T10:15:00.1234567890Z",
        "2026-11-23T10:15+25:00",
        "2026-11-23T10:15+01:75",
        "0001-01-01",
        "1969-12-31T23:59:59Z",
        "2600-01-01T00:00:00Z",
        "\u0662026-11-23",
    ],
)
def test_no_such_time(text: str) -> None:
    with pytest.raises(UsageError):
        parse_iso(text)

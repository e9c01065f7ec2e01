"""Sizes and durations as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsnapfs.core.errors import UsageError
from vsnapfs.core.units import SIZE_BYTES_MAX, format_period, format_size, format_span, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0),
        ("4096", 4096),
        ("512B", 512),
        ("1k", 1024),
        ("10G", 10 * 2**30),
        ("10GiB", 10 * 2**30),
        ("10gb", 10 * 2**30),
        ("1.5G", 3 * 2**29),
        ("0.5K", 512),
        ("2T", 2**41),
        ("3P", 3 * 2**50),
    ],
)
def test_sizes(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    "text",
    ["", "G", "-1", "10X", "1.2.3", "0.3", "1 G", "10Gi ", "1e9", "10iB", "\u0661", "8192P", "9" * 30, "9" * 5000, "0." + "0" * 5000],
)  # fmt: skip
def test_no_size(text: str) -> None:
    with pytest.raises(UsageError):
        parse_size(text)


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (3 * 2**29, "1.5 GiB"),
        (10 * 2**30, "10 GiB"),
        (2**63 - 1, "8 EiB"),
    ],
)
def test_sizes_for_people(size_bytes: int, text: str) -> None:
    assert format_size(size_bytes) == text


@given(st.integers(0, SIZE_BYTES_MAX))
def test_bytes_are_read_back(size_bytes: int) -> None:
    assert parse_size(str(size_bytes)) == size_bytes


@pytest.mark.parametrize(
    ("text", "span_ns"),
    [("1ns", 1), ("1.5us", 1500), ("250ms", 250 * 10**6), ("90s", 90 * 10**9), ("5min", 300 * 10**9), ("5m", 300 * 10**9),
     ("1h30min", 5400 * 10**9), ("1.5d", 129600 * 10**9), ("1w", 604800 * 10**9)],
)  # fmt: skip
def test_durations(text: str, span_ns: int) -> None:
    assert parse_duration(text) == span_ns


@pytest.mark.parametrize("text", ["", "5", "min", "-5min", "5 min", "1y", "400000w", "9" * 5000 + "s"])
def test_no_duration(text: str) -> None:
    with pytest.raises(UsageError):
        parse_duration(text)


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(0, "0 ns"), (999, "999 ns"), (1000, "1.0 us"), (131072, "131 us"), (4194304, "4.2 ms"), (2**31, "2.1 s")],
)
def test_spans_for_people(nanoseconds: int, text: str) -> None:
    assert format_span(nanoseconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.5, "0.5 s"), (59, "59 s"), (90, "1.5 min"), (7200, "2 h"), (30 * 86400, "30 d")]
)
def test_periods_for_people(seconds: float, text: str) -> None:
    assert format_period(seconds) == text

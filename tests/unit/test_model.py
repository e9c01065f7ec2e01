"""What objects of the API work out themselves."""

from __future__ import annotations

import pytest

from vsnapfs.core.state import Latency, LatencyClass

pytestmark = pytest.mark.unit


def counts(**by_class: int) -> list[int]:
    """32 classes; c10=5: five answers of at least 2**10 and less than 2**11 ns."""
    return [by_class.get(f"c{number}", 0) for number in range(32)]


def test_no_latencies() -> None:
    assert Latency.of(counts()) == Latency(p50_ns=None, p90_ns=None, p99_ns=None, classes=[])


def test_percentiles_are_limits() -> None:
    latency = Latency.of(counts(c10=50, c12=40, c20=9, c30=1))
    assert (latency.p50_ns, latency.p90_ns, latency.p99_ns) == (2**11, 2**13, 2**21)
    assert latency.classes[0] == LatencyClass(below_ns=2**11, requests=50)


def test_one_of_a_hundred_and_one_is_not_the_hundredth() -> None:
    latency = Latency.of(counts(c0=99, c5=2))
    assert (latency.p90_ns, latency.p99_ns) == (2, 2**6)


def test_the_slowest_have_no_limit() -> None:
    latency = Latency.of(counts(c3=1, c31=1))
    assert (latency.p50_ns, latency.p90_ns, latency.p99_ns) == (16, None, None)
    assert latency.classes[-1] == LatencyClass(below_ns=None, requests=1)

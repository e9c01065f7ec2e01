"""Hours, days, weeks, months and years of a time zone: which one a moment is in."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, tzinfo
from typing import Literal

from vsnapfs.core.times import NS_PER_S

Period = Literal["hour", "day", "week", "month", "year"]


def period_of(period: Period, time_ns: int, zone: tzinfo) -> str:
    """What that one is called; another one has another name."""
    return _NAMES[period](datetime.fromtimestamp(time_ns // NS_PER_S, zone))


def _hour(moment: datetime) -> str:
    """With the offset: an hour that a change of the clock repeats is two."""
    return f"{moment:%Y-%m-%dT%H%z}"


def _week(moment: datetime) -> str:
    year, week, _ = moment.isocalendar()
    return f"{year}-W{week:02}"


_NAMES: dict[Period, Callable[[datetime], str]] = {
    "hour": _hour,
    "day": lambda moment: f"{moment:%Y-%m-%d}",
    "week": _week,
    "month": lambda moment: f"{moment:%Y-%m}",
    "year": lambda moment: f"{moment:%Y}",
}

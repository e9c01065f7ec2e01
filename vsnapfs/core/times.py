"""Instants: nanoseconds since 1970 UTC, and ISO-8601 text that loses none of them.

``datetime`` stops at microseconds, so the fraction is kept beside it. A time without a zone is local time, as people
mean it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

from vsnapfs.core.errors import UsageError

NS_PER_S = 1_000_000_000
TIME_NS_MAX = 2**64 - 1
"""The journal keeps times as u64; this is a day in July 2554."""

_SHAPE = re.compile(
    r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[T ](?P<clock>[0-9]{2}:[0-9]{2})(?::(?P<second>[0-9]{2})(?:\.(?P<fraction>[0-9]{1,9}))?)?"
    r"(?P<zone>Z|[+-][0-9]{2}(?::?[0-9]{2})?)?)?"
)


def looks_like_time(text: str) -> bool:
    """True for the form of a time, whether or not the calendar has that day."""
    return _SHAPE.fullmatch(text) is not None


def iso(time_ns: int) -> str:
    """``2026-11-23T10:15:00.500000000Z`` for a time in ns since 1970 UTC; always nine digits, always UTC."""
    seconds, fraction_ns = divmod(time_ns, NS_PER_S)
    whole = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{fraction_ns:09d}Z"


def stamp(time_ns: int) -> str:
    """The same as part of a name: ``20261123T101500.500000000Z``."""
    return iso(time_ns).replace("-", "").replace(":", "")


def parse_iso(text: str) -> int:
    """Nanoseconds since 1970 UTC of an ISO-8601 time; a date alone is its midnight, a time without zone is local.

    Raises: UsageError: not that form, no such day or hour, or before 1970 or after 2553.
    """
    match = _SHAPE.fullmatch(text)
    if match is None:
        raise UsageError(f"{text!r} is not a time", hint="write 2026-11-23, 2026-11-23T10:15 or 2026-11-23T10:15:00.5Z")
    part = match.groupdict(default="")
    try:
        naive = datetime.fromisoformat(f"{part['date']}T{part['clock'] or '00:00'}:{part['second'] or '00'}")
        time_ns = _seconds(naive, part["zone"]) * NS_PER_S + int(part["fraction"].ljust(9, "0"))
    except (ValueError, OverflowError, OSError) as error:
        raise UsageError(f"{text!r} is not a time: {error}") from error
    if not 0 <= time_ns <= TIME_NS_MAX:
        raise UsageError(f"{text!r} is outside the years 1970 to 2553")
    return time_ns


def age_s(text: str, now_ns: int) -> int:
    """How long ago a time was; 0 of one that is still to come, where a clock was set back. Raises: UsageError: no time."""
    return max(0, now_ns - parse_iso(text)) // NS_PER_S


def _seconds(naive: datetime, zone: str) -> int:
    """Whole seconds since 1970 UTC of a wall clock reading. zone: ``Z``, ``+01``, ``+0100``, ``+01:00``, "" for local."""
    aware = naive.astimezone() if not zone else naive.replace(tzinfo=UTC if zone == "Z" else _offset(zone))
    return (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)


def _offset(zone: str) -> timezone:
    digits = zone[1:].replace(":", "").ljust(4, "0")
    if int(digits[2:]) > 59:
        raise ValueError(f"no such offset {zone}")
    span = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(-span if zone[0] == "-" else span)

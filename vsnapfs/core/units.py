"""Sizes and durations as people write them. Sizes are binary: 1K is 1024 bytes, with or without ``i`` and ``B``."""

from __future__ import annotations

import re
from fractions import Fraction

from vsnapfs.core.errors import UsageError

SIZE_BYTES_MAX = 2**63 - 1
DURATION_NS_MAX = 2**63 - 1
DIGITS_MAX = 100
"""Of one number. Python takes none apart that has more than 4300."""

_PREFIXES = "KMGTPE"
_SIZE = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?)(?:(?P<prefix>[KMGTP])i?)?B?", re.IGNORECASE)

_NS = {
    "ns": 1,
    "us": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "min": 60 * 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
    "d": 86400 * 10**9,
    "w": 7 * 86400 * 10**9,
}
_STEP = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ns|us|ms|s|min|m|h|d|w)")
_DURATION = re.compile(f"(?:{_STEP.pattern})+")


def parse_size(text: str) -> int:
    """Bytes of ``10G``, ``1.5GiB``, ``512``. Raises: UsageError: no such form, not whole bytes, too large."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise UsageError(f"{text!r} is not a size", hint="write bytes, or a number with K, M, G, T or P such as 10G")
    power = _PREFIXES.index(match["prefix"].upper()) + 1 if match["prefix"] else 0
    size = _number(match["number"]) * 1024**power
    if size.denominator != 1:
        raise UsageError(f"{text!r} is not a whole number of bytes")
    if size > SIZE_BYTES_MAX:
        raise UsageError(f"{text!r} is more than a file can be, {SIZE_BYTES_MAX} bytes")
    return int(size)


def format_size(size_bytes: int) -> str:
    """``512 B``, ``1.5 GiB``: for people; at most one decimal, the unit as large as leaves a number of at least 1."""
    power = 0
    while power < len(_PREFIXES) and size_bytes >= 1024 ** (power + 1):
        power += 1
    if power == 0:
        return f"{size_bytes} B"
    number = f"{size_bytes / 1024**power:.1f}".removesuffix(".0")
    return f"{number} {_PREFIXES[power - 1]}iB"


def looks_like_duration(text: str) -> bool:
    """True for the form ``5min``, ``1h30min``."""
    return _DURATION.fullmatch(text) is not None


def parse_duration(text: str) -> int:
    """Nanoseconds of ``90s``, ``5min``, ``1h30min``, ``1.5d``. Raises: UsageError: no such form, or over 292 years."""
    if not looks_like_duration(text):
        raise UsageError(f"{text!r} is not a duration", hint="write a number with ms, s, min, h, d or w such as 90s")
    span_ns = sum(_number(number) * _NS[unit] for number, unit in _STEP.findall(text))
    if span_ns > DURATION_NS_MAX:
        raise UsageError(f"{text!r} is longer than 292 years")
    return int(span_ns)


def _number(digits: str) -> Fraction:
    if len(digits) > DIGITS_MAX:
        raise UsageError(f"{digits[:20]!r}… is a number of more than {DIGITS_MAX} digits")
    return Fraction(digits)


def format_span(nanoseconds: int) -> str:
    """``131 us``, ``4.2 ms``, ``2.1 s``: for people; at most one decimal, below 10 of a unit."""
    for unit, size_ns in (("s", 10**9), ("ms", 10**6), ("us", 10**3)):
        if nanoseconds >= size_ns:
            number = nanoseconds / size_ns
            return f"{number:.1f} {unit}" if number < 10 else f"{number:.0f} {unit}"
    return f"{nanoseconds} ns"


def duration_text(seconds: float) -> str:
    """``7d``, ``36h``, ``90min``, ``5s``: as settings write it; whole seconds, in the largest unit that is exact."""
    whole = int(seconds)
    return next(
        f"{whole // size}{unit}"
        for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
        if whole % size == 0
    )


def format_period(seconds: float) -> str:
    """``30 d``, ``1.5 h``, ``1 s``: for people; at most one decimal."""
    unit, size_s = next(
        ((unit, size) for unit, size in (("d", 86400), ("h", 3600), ("min", 60)) if seconds >= size), ("s", 1)
    )
    return f"{seconds / size_s:.1f}".removesuffix(".0") + f" {unit}"

"""Points as people write them: a bookmark's name, ``@1234``, a time, ``-5min``, ``latest``.

Parsing only tells the forms apart; what a point means in a journal is the repository's to say. No bookmark can be named
like another form (core.names), so the forms never overlap.
"""

from __future__ import annotations

import re

import msgspec

from vsnapfs.core.errors import UsageError
from vsnapfs.core.times import looks_like_time, parse_iso
from vsnapfs.core.units import looks_like_duration, parse_duration

LATEST = "latest"
SEQNO_MAX = 2**63 - 1
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+:@-]{0,126}")
FORMS = "a bookmark's name, @1234, 2026-11-23T10:15:00Z, -5min or latest"


class Latest(msgspec.Struct, frozen=True):
    """The newest bookmark."""


class Seqno(msgspec.Struct, frozen=True):
    """The state after record ``seqno``; 0 is the state before the first."""

    seqno: int


class Instant(msgspec.Struct, frozen=True):
    """The state after the last record whose time is <= ``time_ns``, ns since 1970 UTC."""

    time_ns: int


class Ago(msgspec.Struct, frozen=True):
    """The instant ``span_ns`` before now."""

    span_ns: int


class Named(msgspec.Struct, frozen=True):
    """The bookmark of that name, if there is one."""

    name: str


PointSpec = Latest | Seqno | Instant | Ago | Named


def parse_point(text: str) -> PointSpec:
    """Tell the forms apart. Raises: UsageError: none of them, or a number, day or span that cannot be."""
    if text == LATEST:
        return Latest()
    if text.startswith("@"):
        return Seqno(_seqno(text))
    if looks_like_time(text):
        return Instant(parse_iso(text))
    if text.startswith("-") and looks_like_duration(text[1:]):
        return Ago(parse_duration(text[1:]))
    if NAME.fullmatch(text) is None:
        raise UsageError(f"{text!r} is not a point", hint=f"write {FORMS}")
    return Named(text)


def is_reserved(name: str) -> bool:
    """True if a bookmark of that name would be mistaken for another form of point."""
    return name == LATEST or looks_like_time(name)


def _seqno(text: str) -> int:
    digits = text[1:]
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 19 and int(digits) <= SEQNO_MAX):
        raise UsageError(f"{text!r} is not a point", hint="write @ and a seqno such as @1234")
    return int(digits)

"""Points, names, sizes, durations and times as people write them: a value that makes sense, or a usage error in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import atheris

with atheris.instrument_imports(include=["vsnapfs"]):
    from vsnapfs.core import names, points, times, units
    from vsnapfs.core.errors import UsageError

from tests.fuzz.python_target import main, one_line

T = TypeVar("T")


def tried(parse: Callable[[str], T], text: str) -> T | None:
    try:
        return parse(text)
    except UsageError as error:
        one_line(error)
        return None


def name_is_safe(text: str) -> None:
    for kind in ("volume", "bookmark"):
        if tried(lambda name, kind=kind: names.check_name(name, kind), text) is None:  # type: ignore[misc]
            continue
        assert text.isascii(), text
        assert not set(text) & set("/\\ \n\0'\"$`*?"), text
        assert ".." not in text, text
        assert text[0] not in ".-", text
        assert len(text) <= names.NAME_LENGTH_MAX, text
        if kind == "bookmark":
            assert points.parse_point(text) == points.Named(text), text


def run(content: bytes) -> None:
    text = content.decode(errors="surrogateescape")
    point = tried(points.parse_point, text)
    if isinstance(point, points.Seqno):
        assert text == f"@{point.seqno}" or text.startswith("@0"), text
    name_is_safe(text)
    size = tried(units.parse_size, text)
    if size is not None:
        assert 0 <= size <= units.SIZE_BYTES_MAX
        units.format_size(size)
        assert units.parse_size(str(size)) == size
    span = tried(units.parse_duration, text)
    assert (span is not None) <= units.looks_like_duration(text)
    if span is not None:
        assert 0 <= span <= units.DURATION_NS_MAX
    time_ns = tried(times.parse_iso, text)
    assert (time_ns is not None) <= times.looks_like_time(text)
    if time_ns is not None:
        assert 0 <= time_ns <= times.TIME_NS_MAX
        assert times.parse_iso(times.iso(time_ns)) == time_ns
    names.near(text[:200], ["db0", "nightly-1"])


WORDS = (
    b"latest", b"@", b"@1234", b"-", b"+", b"5", b"min", b"h", b"d", b"w", b"s", b"ms", b"us", b"ns",
    b"K", b"M", b"G", b"T", b"P", b"i", b"B",
    b"2026-11-23", b"T10:15", b":00", b".5", b"Z", b"+01:00", b"-2359", b"24:00", b"02-30", b"9999-12-31", b"0001-01-01", b"1970-01-01",
    b"nightly-1", b"MANIFEST.json", b"a" * 127, b"1" * 40,
)  # fmt: skip

if __name__ == "__main__":
    main(run, WORDS)

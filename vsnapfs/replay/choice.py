"""Which records are left out of a replay, and of which only parts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from vsnapfs.core.errors import UsageError
from vsnapfs.core.points import Ago, Instant, Seqno, parse_point
from vsnapfs.core.units import parse_size


class Span(NamedTuple):
    """Seqnos, or times in ns: from first to last, both in it."""

    first: int
    last: int

    def has(self, value: int) -> bool:
        return self.first <= value <= self.last


class Range(NamedTuple):
    """Bytes [start_bytes, end_bytes) of a volume."""

    start_bytes: int
    end_bytes: int


class Part(NamedTuple):
    """Of a piece of a record: bytes [start_bytes, end_bytes), which are written again or not."""

    start_bytes: int
    end_bytes: int
    kept: bool


class Choice:
    """What is left out.

    Args: seqnos, times: of records. volumes: ids of those that are left as they are. only: ids; None: all. ranges: by id: bytes that
    are left as they are; a record that is partly in one is written in part.
    """

    def __init__(
        self,
        *,
        seqnos: Iterable[Span] = (),
        times: Iterable[Span] = (),
        volumes: Iterable[int] = (),
        only: Iterable[int] | None = None,
        ranges: Mapping[int, Iterable[Range]] | None = None,
    ) -> None:
        self.seqnos = tuple(seqnos)
        self.times = tuple(times)
        self._volumes = frozenset(volumes)
        self._only = None if only is None else frozenset(only)
        self._ranges = {volume: _joined(found) for volume, found in (ranges or {}).items()}

    def takes(self, volume: int) -> bool:
        """Whether anything of a volume is written again."""
        return volume not in self._volumes and (self._only is None or volume in self._only)

    def keeps(self, seqno: int, time_ns: int, volume: int) -> bool:
        """Whether a record is written again, as far as it is in no range."""
        if not self.takes(volume) or any(span.has(seqno) for span in self.seqnos):
            return False
        return not any(span.has(time_ns) for span in self.times)

    def parts(self, seqno: int, time_ns: int, volume: int, start_bytes: int, end_bytes: int) -> Iterator[Part]:
        """All of a piece, in order."""
        if not self.keeps(seqno, time_ns, volume):
            yield Part(start_bytes, end_bytes, False)
            return
        at = start_bytes
        for left in self._ranges.get(volume, ()):
            low, high = max(at, left.start_bytes), min(end_bytes, left.end_bytes)
            if low >= high:
                continue
            if at < low:
                yield Part(at, low, True)
            yield Part(low, high, False)
            at = high
        if at < end_bytes:
            yield Part(at, end_bytes, True)


def parse_seqnos(text: str) -> Span:
    """``@7`` or ``@7..@9``. Raises: UsageError."""
    first, dots, last = text.partition("..")
    found = [
        parse_point(part) if part.startswith("@") else None for part in ((first, last) if dots else (first, first))
    ]
    low, high = found
    if not isinstance(low, Seqno) or not isinstance(high, Seqno):
        raise UsageError(f"{text!r} names no records", hint="write --skip @1234 or --skip @1234..@1250")
    return _ordered(text, low.seqno, high.seqno)


def parse_times(text: str, now_ns: int) -> Span:
    """``T1..T2``, each a time or a span ago. Raises: UsageError."""
    first, dots, last = text.partition("..")
    found = [parse_point(part) for part in (first, last)] if dots else []
    times = [_time_ns(point, now_ns) for point in found if isinstance(point, Instant | Ago)]
    if len(times) != 2:
        raise UsageError(
            f"{text!r} is no span of time",
            hint="write --skip-time 2026-11-23T10:15:00Z..2026-11-23T10:16:30Z or -5min..-2min",
        )
    return _ordered(text, *times)


def parse_range(text: str) -> tuple[str, Range]:
    """``VOLUME:OFFSET+LENGTH``, both as sizes. Raises: UsageError."""
    volume, _, place = text.rpartition(":")
    offset, plus, length = place.partition("+")
    if not volume or not plus:
        raise UsageError(
            f"{text!r} is no range of a volume", hint="write --skip-range VOLUME:OFFSET+LENGTH such as db0:1M+64K"
        )
    start_bytes, length_bytes = parse_size(offset), parse_size(length)
    if length_bytes == 0:
        raise UsageError(f"{text!r} is empty", hint="give a length")
    return volume, Range(start_bytes, start_bytes + length_bytes)


def _time_ns(point: Instant | Ago, now_ns: int) -> int:
    return point.time_ns if isinstance(point, Instant) else max(0, now_ns - point.span_ns)


def _ordered(text: str, first: int, last: int) -> Span:
    if first > last:
        raise UsageError(f"{text!r} ends before it begins", hint="give the older one first")
    return Span(first, last)


def _joined(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """Ascending, none touching the next."""
    found: list[Range] = []
    for each in sorted(ranges):
        if found and each.start_bytes <= found[-1].end_bytes:
            found[-1] = Range(found[-1].start_bytes, max(found[-1].end_bytes, each.end_bytes))
        else:
            found.append(each)
    return tuple(found)

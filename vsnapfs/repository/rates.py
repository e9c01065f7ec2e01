"""How fast volumes are written to, and how much of that is written again, out of the journal itself.

Only the time of which every instant is there can tell: before it, what was written again is gone. What was written is counted
record by record in hours that lie evenly over that time; what differs after a span is counted exactly, by the maps that views
are made of.

Bytes are those of whole blocks of 4 KiB, as they take room.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

from vsnapfs.binding import RunKind
from vsnapfs.core.errors import DegradedError, PointGoneError
from vsnapfs.core.keeping import ChangedAfter, Rates, VolumeRate
from vsnapfs.core.times import NS_PER_S
from vsnapfs.repository.compaction_plan import first_instant_seqno
from vsnapfs.repository.parts import Parts
from vsnapfs.repository.promise import AGE_NS_MIN

TRIES = 3
HOUR_NS = 3600 * NS_PER_S
HOURS_MAX = 24
PIECES_MAX = 100_000
"""Of an hour; of one that has more, the rest is taken to be like these."""
SPANS_S = (3600, 6 * 3600, 86400, 7 * 86400, 30 * 86400)
BLOCK_BYTES = 4096


def measure(parts: Parts) -> Rates:
    """Raises: DegradedError: the journal does not tell of an hour yet. PointGoneError: prunes give up its beginning all the while."""
    for _ in range(TRIES - 1):
        with suppress(PointGoneError):
            return _measure(parts)
    return _measure(parts)


def _measure(parts: Parts) -> Rates:
    facts = parts.journal.facts()
    since, until = first_instant_seqno(parts.journal.segments(), facts), facts.committed_seqno
    since_ns = parts.journal.time_of(since) if since <= until else 0
    span_ns = facts.last_time_ns - since_ns if since <= until else 0
    if span_ns < AGE_NS_MIN:
        raise DegradedError(
            f"the journal tells of {span_ns // (60 * NS_PER_S)} min of writes only",
            hint="ask again when it has an hour",
        )
    hours = [_hour(parts, begin_ns) for begin_ns in _begins(since_ns, span_ns)]
    written: Counter[int] = sum((hour for hour, _ in hours), Counter())
    changed: Counter[int] = sum((after for _, after in hours), Counter())
    return Rates(
        since=parts.point(since),
        until=parts.point(until),
        hours=len(hours),
        written_bytes_per_hour=written.total() // len(hours),
        peak_bytes_per_hour=max(hour.total() for hour, _ in hours),
        rewritten_percent=_percent(written.total(), changed.total()),
        changed=[
            ChangedAfter(
                span_s=span_s, changed_bytes=_changed(parts, facts.last_time_ns - span_s * NS_PER_S, until).total()
            )
            for span_s in SPANS_S
            if span_s * NS_PER_S <= span_ns
        ],
        volumes=[
            VolumeRate(
                volume=entry.name,
                written_bytes_per_hour=written[entry.id] // len(hours),
                rewritten_percent=_percent(written[entry.id], changed[entry.id]),
            )
            for entry in parts.entries()
        ],
    )


def _begins(since_ns: int, span_ns: int) -> Iterator[int]:
    """Of so many hours as there are, at most HOURS_MAX, evenly over the time."""
    count = min(HOURS_MAX, span_ns // HOUR_NS)
    for number in range(count):
        yield since_ns + number * (span_ns - HOUR_NS) // max(1, count - 1)


def _hour(parts: Parts, begin_ns: int) -> tuple[Counter[int], Counter[int]]:
    """What was written in it, and what then differed from its beginning, by volume."""
    since, until = parts.journal.seqno_at(begin_ns), parts.journal.seqno_at(begin_ns + HOUR_NS)
    written: Counter[int] = Counter()
    last = since
    for piece in islice(parts.journal.pieces(since), PIECES_MAX):
        if piece.seqno > until:
            last = until
            break
        last = piece.seqno
        written[piece.volume] += 0 if piece.zero else _blocks_bytes(piece.offset_bytes, piece.length_bytes)
    if since < last < until:
        written = Counter({volume: size * (until - since) // (last - since) for volume, size in written.items()})
    return written, _changed_between(parts, since, until)


def _changed(parts: Parts, since_ns: int, until: int) -> Counter[int]:
    return _changed_between(parts, parts.journal.seqno_at(since_ns), until)


def _changed_between(parts: Parts, since: int, until: int) -> Counter[int]:
    """What records in between have left, by volume; of a volume that was added in between, all of it."""
    changed: Counter[int] = Counter()
    for entry in parts.entries(until):
        if since >= until:
            continue
        with parts.journal.changes(entry.id, max(since, entry.added_seqno), until) as view:
            changed[entry.id] = sum(
                _blocks_bytes(run.offset_bytes, run.length_bytes) for run in view.runs() if run.kind == RunKind.DATA
            )
    return changed


def _blocks_bytes(offset_bytes: int, length_bytes: int) -> int:
    first, last = offset_bytes // BLOCK_BYTES, (offset_bytes + length_bytes - 1) // BLOCK_BYTES
    return (last - first + 1) * BLOCK_BYTES


def _percent(written_bytes: int, changed_bytes: int) -> int:
    """How much of what was written was written over again."""
    return 0 if written_bytes == 0 else max(0, 100 * (written_bytes - changed_bytes) // written_bytes)

"""``plan``: from what was measured and two answers of people to what the settings should say. Pure arithmetic.

The two questions: how long may it take until a defect is noticed, and how long may it take until all is well again.

* The protection window is the first answer: any instant can be searched for the defect until it is noticed. Where the disk has no room for
  that, it is what there is room for, and bookmarks cover the rest.
* Bookmarks come so often that what was written since the last one can be written again in a quarter of the second answer, at
  REPLAY_BYTES_PER_S, and no less often than the second answer itself.
* Behind the window stay daily bookmarks for twice the first answer, then weekly and monthly ones.

Bytes: the window takes what is written; a bookmark behind it takes at most what differs from the next one that stays. That is
measured for spans that the journal has; for longer ones it grows as it did between the two longest that were measured, and no
larger than the volumes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
WEEK_S = 7 * DAY_S
MONTH_S = 30 * DAY_S
INTERVALS_S = (60, 300, 600, 900, 1800, 3600, 2 * 3600, 4 * 3600, 6 * 3600, 12 * 3600, 86400)
"""Those that people say."""
REPLAY_BYTES_PER_S = 50 << 20
HEADROOM = 1.2
"""Of what is planned to what is there: rates change, and a compaction needs room for what it makes."""
WEEKS = 8
MONTHS = 12


class Measured(NamedTuple):
    """What the journal tells. written_bytes_per_s: on average; peak: of the busiest hour that was looked at. changed_bytes: by
    span in seconds, what of the volumes differs after it. data_bytes: what the volumes hold. base_bytes: what bases take.
    room_bytes: what journal and bases may take, with what they have."""

    written_bytes_per_s: float
    peak_bytes_per_s: float
    changed_bytes: Mapping[float, int]
    data_bytes: int
    base_bytes: int
    room_bytes: int


class Answers(NamedTuple):
    """Seconds."""

    noticed_in_s: float
    recover_in_s: float


class Proposal(NamedTuple):
    """Seconds, counts, bytes. fits: False if the disk has not even room for a day of window and the bookmarks behind it."""

    window_s: float
    interval_s: int
    keep_daily: int
    keep_weekly: int
    keep_monthly: int
    window_bytes: int
    bookmarks_bytes: int
    base_bytes: int
    fits: bool

    @property
    def total_bytes(self) -> int:
        return self.window_bytes + self.bookmarks_bytes + self.base_bytes


def propose(measured: Measured, answers: Answers) -> Proposal:
    """What to say in the settings."""
    days = max(7, math.ceil(2 * answers.noticed_in_s / DAY_S))
    behind_bytes = sum(
        count * changed_after(measured, span_s) for count, span_s in ((days, DAY_S), (WEEKS, WEEK_S), (MONTHS, MONTH_S))
    )
    base_bytes = max(measured.base_bytes, measured.data_bytes)
    room_bytes = measured.room_bytes / HEADROOM - behind_bytes - base_bytes
    rate = measured.written_bytes_per_s
    window_s = answers.noticed_in_s if rate == 0 else min(answers.noticed_in_s, room_bytes / rate)
    fits = window_s >= min(answers.noticed_in_s, DAY_S)
    window_s = max(window_s, min(answers.noticed_in_s, DAY_S))
    return Proposal(
        window_s=window_s,
        interval_s=interval(measured, answers),
        keep_daily=days,
        keep_weekly=WEEKS,
        keep_monthly=MONTHS,
        window_bytes=round(rate * window_s),
        bookmarks_bytes=round(behind_bytes),
        base_bytes=base_bytes,
        fits=fits,
    )


def interval(measured: Measured, answers: Answers) -> int:
    """Between bookmarks, in seconds."""
    longest_s = answers.recover_in_s
    if measured.peak_bytes_per_s > 0:
        longest_s = min(longest_s, answers.recover_in_s / 4 * REPLAY_BYTES_PER_S / measured.peak_bytes_per_s)
    return max((nice_s for nice_s in INTERVALS_S if nice_s <= longest_s), default=INTERVALS_S[0])


def changed_after(measured: Measured, span_s: float) -> float:
    """Bytes that differ after so long. Nothing measured: all that is written."""
    spans = sorted(measured.changed_bytes)
    most = max(measured.data_bytes, *measured.changed_bytes.values(), 0) if spans else measured.data_bytes
    if not spans:
        return min(measured.written_bytes_per_s * span_s, most)
    shorter = [known_s for known_s in spans if known_s <= span_s]
    if not shorter:
        return measured.changed_bytes[spans[0]] * min(1.0, span_s / spans[0])
    last_s = shorter[-1]
    if last_s == span_s or last_s != spans[-1]:
        return _between(measured, last_s, next((s for s in spans if s > last_s), last_s), span_s)
    power = _power(measured, spans)
    return min(measured.changed_bytes[last_s] * math.pow(span_s / last_s, power), most)


def _between(measured: Measured, low_s: float, high_s: float, span_s: float) -> float:
    low, high = measured.changed_bytes[low_s], measured.changed_bytes[high_s]
    return low if high_s == low_s else low + (high - low) * (span_s - low_s) / (high_s - low_s)


def _power(measured: Measured, spans: list[float]) -> float:
    """How what differs grows with time, between the two longest spans: 1 where nothing is written twice, 0 where all is."""
    if len(spans) < 2:
        return 1.0
    first_s, last_s = spans[-2], spans[-1]
    first, last = measured.changed_bytes[first_s], measured.changed_bytes[last_s]
    if first <= 0 or last <= first:
        return 0.0 if first > 0 else 1.0
    return min(1.0, math.log(last / first) / math.log(last_s / first_s))

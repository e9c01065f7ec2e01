"""What stays and what goes, what that costs and gives back, and what a policy would need.

Source: docs/retention.md; the rules of model.py hold here too.
"""

from __future__ import annotations

import msgspec

from vsnapfs.core.model import Point


class Fate(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of a bookmark."""

    bookmark: str
    seqno: int
    time: str
    """Of its point."""
    stays: bool
    reasons: list[str]
    """Why it stays, or why it goes."""


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """How far back points can be opened. None: nothing was written yet."""

    oldest: Point | None
    """The oldest point of all."""
    any_instant: Point | None
    """From here on every point; before it only those that are named."""


class Prune(msgspec.Struct, frozen=True, kw_only=True):
    """What ``vsnapfs prune`` did, or would do."""

    dry_run: bool
    time: str | None
    """The journal's time, by which ages are told: that of its newest record; None: nothing was written yet."""
    bookmarks: list[Fate]
    """All of them, the oldest point first."""
    removed: int
    kept: int
    before: Reach
    after: Reach
    held_bytes: int
    """Of journal and bases, before."""
    predicted_bytes: int
    """So much of it is given back, by the figures of before."""
    freed_bytes: int
    """So much of it was, readers that still need replaced files left aside."""
    fits: bool
    """False if more is left than ``maximum_size``."""
    changed: list[str]
    """Bookmarks that stay though they should have gone: what was known of them changed meanwhile."""
    waiting_files: int
    """Replaced, and not deleted yet, since somebody reads them."""
    problems: list[str]
    """Why less was given back than should have been."""


class Compaction(msgspec.Struct, frozen=True, kw_only=True):
    """How far giving space back is, and how it was the last time, of this server."""

    running: bool = False
    what: str | None = None
    """Of the one that runs: ``bookmarks``, ``bases`` or ``journal``."""
    done_bytes: int = 0
    total_bytes: int = 0
    last_began: str | None = None
    last_ended: str | None = None
    removed: int = 0
    """Bookmarks, by the last one that ended."""
    freed_bytes: int = 0
    garbage_bytes: int | None = None
    """What no point needed after the last one, and is there still; None: not known."""
    waiting_files: int = 0
    problems: list[str] = []


class Space(msgspec.Struct, frozen=True, kw_only=True):
    """What a bookmark takes, in bytes of the journal."""

    bookmark: str
    freed_bytes: int
    """What would be given back if it alone was removed; 0 in the protection window, where every point stays."""
    shared_bytes: int
    """What else it needs, which others need too; with what it needs of the bases."""


class ChangedAfter(msgspec.Struct, frozen=True, kw_only=True):
    """What of all volumes differs after so long."""

    span_s: int
    changed_bytes: int


class VolumeRate(msgspec.Struct, frozen=True, kw_only=True):
    """How fast a volume is written to, on average."""

    volume: str
    written_bytes_per_hour: int
    rewritten_percent: int
    """Of what is written in an hour, so much is written over again within it."""


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """How fast all volumes are written to. Bytes of whole blocks."""

    since: Point
    """From here on the journal tells."""
    until: Point
    hours: int
    """So many were looked at."""
    written_bytes_per_hour: int
    peak_bytes_per_hour: int
    rewritten_percent: int
    changed: list[ChangedAfter]
    """Of the spans that the journal has, the shortest first."""
    volumes: list[VolumeRate]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What ``vsnapfs plan`` proposes, and what it follows from."""

    noticed_in_s: float
    recover_in_s: float
    rates: Rates
    room_bytes: int
    """For journal and bases, with what they have."""
    protection_window: str
    """As the settings write it."""
    bookmark_every: str
    keep_daily: int
    keep_weekly: int
    keep_monthly: int
    window_bytes: int
    bookmarks_bytes: int
    base_bytes: int
    fits: bool
    """False if there is no room for it."""
    short: bool
    """True if the window is shorter than the time until a defect is noticed."""
    assumptions: list[str]
    written: bool
    """True if it stands in the settings now."""

"""The nouns of the project as plain values, without I/O.

These structs are what the Python API returns, what the control socket carries and what ``--json`` prints, so each field
is part of a contract: names end in their unit, times are ISO-8601 UTC beside the exact ``*_ns``, nothing is abbreviated.

Source: design of the tree and the command in docs/tree.md and docs/command.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Literal

import msgspec

Consistency = Literal["crash", "filesystem", "application"]
PrimaryKind = Literal["repository", "path", "none"]
DataMode = Literal["verify", "kernel", "auto"]
"""Who reads volumes at points: docs/tree.md, section on reading through the kernel."""


class Volume(msgspec.Struct, frozen=True, kw_only=True):
    """A virtual disk. ``size_bytes`` and the counters are those of the point it was asked for."""

    id: int
    name: str
    size_bytes: int
    block_size_bytes: int
    primary: PrimaryKind
    primary_path: str | None
    """Absolute path of the primary; None for ``none``."""
    base: bool
    """True if it starts from a base image, false if from zeros."""
    added_seqno: int
    removed: bool = False


class VolumeAt(msgspec.Struct, frozen=True, kw_only=True):
    """A volume at one point, as MANIFEST.json names it."""

    name: str
    id: int
    size_bytes: int
    data_bytes: int
    """Bytes that hold data; the rest are holes. ``st_blocks`` is this over 512, rounded up."""
    last_write_seqno: int
    last_write_time: str


class FederatedRepository(msgspec.Struct, frozen=True, kw_only=True):
    """One of the repositories that a bookmark was made over."""

    uuid: str
    path: str
    """Absolute; where it was then."""
    seqno: int
    """The point that the bookmark names there."""


class Federation(msgspec.Struct, frozen=True, kw_only=True):
    """What a bookmark is part of that was made over several repositories at one instant."""

    id: str
    repositories: tuple[FederatedRepository, ...]
    """All of them. The first is the one that decides: it carries the bookmark, or none does."""


class Undecided(msgspec.Struct, frozen=True, kw_only=True):
    """A bookmark over several repositories of which this one does not know whether it was made."""

    id: str
    name: str
    since: str
    first_path: str
    """Of the repository that knows."""
    first_uuid: str
    why: str
    """What was told when it was asked; empty: nobody has asked yet."""


MemberResult = Literal["frozen", "failed", "timed_out", "not_reached", "lost"]
"""``lost``: it was still, but not for long enough."""
QuiescePhase = Literal["preparing", "freezing", "frozen", "thawing"]


class MemberFile(msgspec.Struct, frozen=True):
    """A text that belongs to what a bookmark has of a member, and is known only after it."""

    name: str
    """Under which whoever restores may need it."""
    text: str


class MemberOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one member of a quiesce profile. Times are ISO-8601 UTC with nanoseconds."""

    name: str
    kind: str
    outcome: MemberResult
    consistency: Consistency
    """What a bookmark has of it, if it was frozen."""
    prepared: str | None = None
    frozen: str | None = None
    thawed: str | None = None
    error: str = ""
    """Why it was not frozen; or, of one that was, what went wrong when it was thawed."""
    files: tuple[MemberFile, ...] = ()


class Quiesce(msgspec.Struct, frozen=True, kw_only=True):
    """One that is under way."""

    profile: str
    bookmark: str
    phase: QuiescePhase
    since: str
    deadline_s: float


class Bookmark(msgspec.Struct, frozen=True, kw_only=True):
    """A name on a seqno."""

    name: str
    seqno: int
    time: str
    """Of the record it names, ISO-8601 UTC with nanoseconds."""
    time_ns: int
    consistency: Consistency
    application: str = ""
    note: str = ""
    held: bool = False
    hold_note: str = ""
    hold_until: str | None = None
    """The hold counts until the journal is at this time; None: until it is released."""
    hold_until_ns: int | None = None
    created_seqno: int
    """The record that made it; greater than seqno for a name given to a past instant."""
    created: str
    """Of that record."""
    created_ns: int
    federation: Federation | None = None
    """None: it is of this repository alone."""
    schedule: str = ""
    """Which made it; "": somebody asked for it."""
    profile: str = ""
    """Of the quiesce that it was made in; "": of none."""
    members: tuple[MemberOutcome, ...] = ()
    """Of that profile, in its order."""

    @property
    def is_whole(self) -> bool:
        """All members were frozen, and thawed without an error; or there are none."""
        return all(member.outcome == "frozen" and not member.error for member in self.members)


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """Any position in the journal: the state after record ``seqno``."""

    seqno: int
    time: str
    time_ns: int
    bookmark: str | None = None


class Extent(msgspec.Struct, frozen=True, kw_only=True):
    """A changed run of bytes, half-open; ``zero`` when it now reads as zeros."""

    offset_bytes: int
    length_bytes: int
    zero: bool


class VolumeDiff(msgspec.Struct, frozen=True, kw_only=True):
    """What differs of one volume between two points; also ``diff/A..B/VOLUME.json``."""

    volume: str
    since: Point
    until: Point
    size_bytes: int
    changed_bytes: int
    extents: list[Extent]


class LatencyClass(msgspec.Struct, frozen=True, kw_only=True):
    """Answers that took less than ``below_ns`` and at least half of it; None: all that took longer."""

    below_ns: int | None
    requests: int


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """How long answers took. ``pN_ns``: N of a hundred took less, as exactly as the classes tell: within a factor of 2;
    None: some of them are in the class without a limit, or there are none."""

    p50_ns: int | None
    p90_ns: int | None
    p99_ns: int | None
    classes: list[LatencyClass]
    """Those that have requests, the quickest first."""

    @classmethod
    def of(cls, counts: Sequence[int]) -> Latency:
        """counts[i]: answers in [2**i, 2**(i+1)) nanoseconds; the last: all that took longer."""
        limits: list[int | None] = [*(2 << i for i in range(len(counts) - 1)), None]

        def below(percent: int) -> int | None:
            sums = accumulate(counts)
            wanted = sum(counts) * percent
            return next((limit for limit, n in zip(limits, sums, strict=True) if n and 100 * n >= wanted), None)

        classes = [LatencyClass(below_ns=limit, requests=n) for limit, n in zip(limits, counts, strict=True) if n]
        return cls(p50_ns=below(50), p90_ns=below(90), p99_ns=below(99), classes=classes)


class RequestCount(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of one operation. What names answer (lookup, open …) counts ``requests`` alone."""

    requests: int
    errors: int
    bytes: int
    """Of volumes: read, written or zeroed."""
    nanoseconds: int
    latency: Latency


class OpenFile(msgspec.Struct, frozen=True, kw_only=True):
    """A volume that somebody has open in the mount, and what was asked of it since."""

    handle: int
    volume: str
    live: bool
    point: Point | None
    """A point at which it is as it is shown; None for a live volume."""
    requests: int
    errors: int
    bytes: int
    nanoseconds: int
    latency: Latency


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """How a server is protected when the system lacks memory; each needs rights that it may not have."""

    locked: bool
    """What it has used stays in memory, but for mapped files of the repository."""
    kept: bool
    """Freed memory stays with it, and a reserve of it is there."""
    io_flusher: bool
    """It does not wait for writes that may wait for it."""
    killed_last: bool
    """The kernel kills others before."""


class MountData(msgspec.Struct, frozen=True, kw_only=True):
    """Who reads the volumes at points of a mount."""

    mode: DataMode
    """As it was chosen."""
    kernel: bool
    """True if the kernel can read volumes by itself here."""
    why_not: str | None
    open_verify: int
    """Open files whose reads are compared with their checksums."""
    open_kernel: int
    """Open files that the kernel reads by itself."""


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """A time in which writes were not journalled. No point in it can be made or read."""

    since: str
    """The first instant that the journal does not know."""
    since_seqno: int
    """The last record before it."""
    until: str | None
    """The first instant that it knows again; None: it goes on."""
    until_seqno: int | None
    reason: str
    changed_bytes: int
    """So much of the volumes may differ from the journal still."""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What ``vsnapfs status`` tells."""

    repository: str
    uuid: str
    served: bool
    mountpoint: str | None
    pid: int | None
    """Whom to signal to end the server."""
    transport: str | None
    """How requests come from the kernel: ``device`` or ``io_uring``; None: nothing is mounted."""
    protected: bool
    """False when anything is less than fully protected; ``problems`` says what."""
    problems: list[str]
    warnings: list[str]
    """What will become a problem if nobody does anything."""
    gaps: list[Gap]
    """In the order of time."""
    window_first: Point | None
    window_last: Point | None
    last_seqno: int
    committed_seqno: int
    applied_seqno: int
    segments: int
    journal_bytes: int
    index_bytes: int
    """Merged maps and the catalog: what could be made again."""
    base_bytes: int
    free_bytes: int
    bookmarks: int
    volumes: list[Volume]
    commits: int
    commit_waits: int
    worker_pid: int | None
    """Of the process that serves; another than ``pid`` if a keeper stands behind it."""
    keeper: str | None
    """Who goes on with the mount if that process dies: ``process``, ``systemd``, ``none``."""
    memory: Memory | None
    """None when nothing serves."""
    requests: dict[str, RequestCount]
    """FUSE requests by operation, of this worker's life. Empty when nothing is mounted."""
    open_files: list[OpenFile]
    """The busiest first. Empty when nothing is mounted."""
    data: MountData | None
    """None when nothing is mounted."""
    any_instant_from: Point | None
    """From here on every point can be opened; before it, in the window, only named ones."""
    compaction: Compaction
    """Empty when nothing serves."""
    scrub: Scrub
    """As far as it is known."""
    schedules: list[ScheduleState] = []
    """By name."""
    quiesce: Quiesce | None = None
    """The one that is under way; None: none is, of this process."""


class Damage(msgspec.Struct, frozen=True, kw_only=True):
    """One place that is not as it was written."""

    file: str
    """Relative to the repository."""
    offset_bytes: int
    what: str
    derived: bool
    """True if --repair can make it again."""
    costs: list[str]
    """POINT/VOLUME of bookmarks that cannot be read whole because of it."""
    repaired: bool = False
    lost_first_seqno: int | None = None
    """From this point on …"""
    lost_last_seqno: int | None = None
    """… to this one, none can be opened because of it; None: every point can."""


class AnchorProof(msgspec.Struct, frozen=True, kw_only=True):
    """What an anchor proves of a repository."""

    seqno: int
    """It speaks of the past up to here."""
    holds: bool
    by: Literal["bytes", "trailers"]
    """Whether digests were made again from every byte, or only taken from where they stand."""
    keyed: bool
    """True if its MAC was compared, with the key."""
    not_covered: list[str]
    """Volumes by then of which a part, the base or what was compacted, has no digest that speaks for it."""


class Anchor(msgspec.Struct, frozen=True, kw_only=True):
    """What ``vsnapfs anchor`` tells."""

    value: str
    seqno: int
    time: str
    keyed: bool


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """What ``vsnapfs check`` found."""

    segments: int
    maps: int
    bases: int
    read_bytes: int
    data_bytes: int
    """What there is to read."""
    seed: int | None
    """What chose the part that was read, if it was a part."""
    damages: list[Damage]
    anchor: AnchorProof | None = None


class Scrub(msgspec.Struct, frozen=True, kw_only=True):
    """How far the server's own reading of everything is."""

    every_s: float | None = None
    """How long a pass takes; None: there is none."""
    began: str | None = None
    """Of the pass that is under way."""
    done_bytes: int = 0
    total_bytes: int = 0
    last_began: str | None = None
    last_ended: str | None = None
    damages: list[Damage] = []
    """Found, and not found gone since."""


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


class ScheduleState(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a schedule. Of a server, since it started; but the last bookmark, which is known without one too."""

    name: str
    when: str
    """As the settings have it: ``every 15min``, ``cron 0 2 * * *``."""
    next_due: str | None = None
    """None: nobody runs it."""
    running: bool = False
    last_bookmark: str | None = None
    last_made: str | None = None
    """When that was made."""
    last_error: str | None = None
    """Why the last run failed; None: it did not."""
    missed: int = 0
    """So many times it was due and not run."""


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


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """Where a long piece of work stands."""

    what: str
    done: int
    total: int
    unit: Literal["bytes", "files"] = "bytes"

"""How a repository and its server are at the moment.

Source: docs/command.md; the rules of model.py hold here too.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Literal

import msgspec

from vsnapfs.core.findings import Scrub
from vsnapfs.core.keeping import Compaction
from vsnapfs.core.model import DataMode, Point, Quiesce, Volume


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
    """A point at which it is as it is shown; None for a live volume, and for one of a branch."""
    requests: int
    errors: int
    bytes: int
    nanoseconds: int
    latency: Latency
    branch: str | None = None
    """Of which it is; None: of none."""


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
    verifications: list[VerificationState] = []
    """By name."""
    archiving: list[ArchivingState] = []
    """By name."""
    quiesce: Quiesce | None = None
    """The one that is under way; None: none is, of this process."""
    branches: int = 0
    branch_bytes: int = 0
    """What was written to branches takes so much of the disk."""


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


class VerificationState(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a profile of verifications; as a ScheduleState."""

    name: str
    when: str
    next_due: str | None = None
    running: bool = False
    last_bookmark: str | None = None
    """Of those that stand, the last one that it gave a verdict on."""
    last_verdict: str | None = None
    """When that was."""
    last_good: bool | None = None
    last_error: str | None = None
    """Why the last run came to no verdict; None: it did, or there was none."""
    missed: int = 0


class ArchivingState(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a policy of archives. What is on tape is known without a server too."""

    name: str
    when: str
    """As the settings have it: ``last of each week of daily-* to vault``."""
    medium: str
    waiting: list[str]
    """Bookmarks that are to be archived now, by their points."""
    unprotected: list[str]
    """Those of them that retention does not leave for this any more."""
    last_bookmark: str | None = None
    """What was archived last; the name may be gone."""
    last_archived: str | None = None
    """When that archive was begun."""
    under_way: str | None = None
    """The bookmark that is being archived by the server."""
    last_error: str | None = None
    """Why the last try failed; None: it did not."""
    again: str | None = None
    """When it is tried again; None: nobody tries it, or it is under way."""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """Where a long piece of work stands."""

    what: str
    done: int
    total: int
    unit: Literal["bytes", "files"] = "bytes"

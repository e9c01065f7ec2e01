"""What a replay did, as plain values: it is kept with the branch, and what ``--json`` prints. The rules of model.py hold here too.

Source: docs/replay.md.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from vsnapfs.core.model import Point

ConflictKind = Literal["over", "beside"]
"""``over``: the kept write went over bytes that the skipped one had put there. ``beside``: the bytes lie beside those that it wrote, in
a block of 4 KiB that it wrote a part of."""
ReplayState = Literal["planned", "unfinished", "failed", "done"]
REPORT_KIND = "replay"


class Conflict(msgspec.Struct, frozen=True, kw_only=True):
    """A write that was made again, by somebody who may have seen the effect of one that was left out."""

    kept_seqno: int
    skipped_seqno: int
    volume: str
    offset_bytes: int
    length_bytes: int
    """Of the bytes that the skipped one had put there."""
    kind: ConflictKind


class ReplayVolume(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay comes to in one volume. A byte that several records wrote counts each time."""

    name: str
    applied_bytes: int
    """Data and zeros."""
    skipped_bytes: int
    differs_bytes: int
    """So much of it was last written by what was left out, so it may differ from the volume at the end of the replay."""


class FilesystemVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the filesystem's own checker says of a volume of the branch."""

    volume: str
    filesystem: str
    ok: bool | None
    """None: nobody knows."""
    text: str


class TrialVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """How the test ended."""

    test: list[str]
    verdict: Literal["good", "bad", "skip", "none"]
    """``none``: it came to no end that says anything; ``why`` tells."""
    exit_status: int | None
    why: str
    output: str
    """The last of what it printed."""


class ReplayReport(msgspec.Struct, frozen=True, kw_only=True):
    """A replay onto a branch."""

    kind: str = REPORT_KIND
    state: ReplayState
    """``planned``: nothing was written. ``unfinished``: it is going on, or it was killed; ``failed``: ``error`` says why; then the branch
    has a part."""
    error: str
    began: str
    """ISO-8601 UTC with nanoseconds."""
    branch: str
    since: Point
    until: Point
    left_out: list[str]
    """As it was asked for."""
    applied_records: int
    applied_bytes: int
    skipped_records: int
    skipped_bytes: int
    split_records: int
    """Written in part; they are among the applied ones."""
    volumes: list[ReplayVolume]
    over_conflicts: int
    beside_conflicts: int
    conflicts: list[Conflict]
    """In the order of the kept writes; the first of them, where there are very many."""
    notes: list[str]
    checks: list[FilesystemVerdict]
    test: TrialVerdict | None

"""The nouns of the project as plain values, without I/O.

These structs are what the Python API returns, what the control socket carries and what ``--json`` prints, so each field
is part of a contract: names end in their unit, times are ISO-8601 UTC beside the exact ``*_ns``, nothing is abbreviated.

Source: design of the tree and the command in docs/tree.md and docs/command.md.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Consistency = Literal["crash", "filesystem", "application"]
PrimaryKind = Literal["repository", "path", "none"]
Proved = Literal["mounted", "checked", "read", "command"]
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


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a proof that a point can be restored."""

    profile: str
    """Whose settings said how; "": those of the command line."""
    good: bool
    time: str
    """When it was given, ISO-8601 UTC with nanoseconds."""
    took_s: float
    volumes: tuple[str, ...]
    proved: tuple[Proved, ...]
    """What was done to each of these volumes, or to all together, and went well; but for what the remarks say."""
    reason: str = ""
    """Why it is not good."""
    remarks: tuple[str, ...] = ()
    """Which of them were not mounted, or not checked, and why."""


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
    verdicts: tuple[Verdict, ...] = ()
    """The last of each profile that its point was verified with, the newest last."""

    @property
    def is_whole(self) -> bool:
        """All members were frozen, and thawed without an error; or there are none."""
        return all(member.outcome == "frozen" and not member.error for member in self.members)

    @property
    def is_good(self) -> bool | None:
        """All of these verdicts are good; None: there is none."""
        return all(verdict.good for verdict in self.verdicts) if self.verdicts else None


class RemovedBookmark(Bookmark, frozen=True, kw_only=True):
    """One that was removed."""

    branches: list[str] = []
    """Those that stand on its point, which stays for them."""


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

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
    created_seqno: int
    """The record that made it; greater than seqno for a name given to a past instant."""


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


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What ``vsnapfs status`` tells."""

    repository: str
    uuid: str
    served: bool
    mountpoint: str | None
    pid: int | None
    protected: bool
    """False when anything is less than fully protected; ``problems`` says what."""
    problems: list[str]
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
    requests: dict[str, dict[str, int]]
    """FUSE requests by operation: requests, errors, bytes, nanoseconds. Empty when nothing is mounted."""
    data: MountData | None
    """None when nothing is mounted."""


class Damage(msgspec.Struct, frozen=True, kw_only=True):
    """One place that is not as it was written."""

    file: str
    """Relative to the repository."""
    offset_bytes: int
    what: str
    derived: bool
    """True if --repair can make it again."""
    costs: list[str]
    """POINT/VOLUME of bookmarks that need the damaged bytes."""
    repaired: bool = False


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """What ``vsnapfs check`` found."""

    segments: int
    maps: int
    bases: int
    read_bytes: int
    damages: list[Damage]


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """Where a long piece of work stands."""

    what: str
    done: int
    total: int
    unit: Literal["bytes", "files"] = "bytes"

"""Tapes, archives and pieces as plain values, without I/O: what a label says, and what the catalog of tapes keeps and shows.

Source: docs/tape.md, docs/tape-format.md.
"""

from __future__ import annotations

from typing import Literal

import msgspec

LABEL_FORMAT = 1

TapeState = Literal["open", "full", "retired"]
"""``open``: may be appended to. ``full``: its end was met. ``retired``: nothing on it counts any more."""
ArchiveKind = Literal["full", "incremental"]
ArchiveState = Literal["under way", "complete", "failed", "dropped", "lost"]
"""``failed``: broken off, and may be resumed. ``dropped``: broken off, and given up. ``lost``: a tape of it was written over."""


class TapeLabel(msgspec.Struct, frozen=True, kw_only=True):
    """What tape file 0 says. A tape that is written from its beginning again gets a new uuid and the next generation."""

    format: int = LABEL_FORMAT
    label: str
    uuid: str
    medium: str
    """The setting it was labelled by; empty: none."""
    block_bytes: int
    made: str
    generation: int = 1
    note: str = ""


class TapeEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A tape as the catalog knows it."""

    label: str
    uuid: str
    medium: str
    state: TapeState = "open"
    protected: bool = False
    generation: int = 1
    block_bytes: int
    made: str
    written_ns: int | None = None
    """When a piece on it was completed last; None: it holds none."""
    retired_ns: int | None = None
    files: int = 1
    """Tape files that count: the label, and a piece and its index for each piece. What is behind them may be written over."""
    used_bytes: int = 0
    """Stored bytes in them."""
    note: str = ""


class ArchivedPoint(msgspec.Struct, frozen=True, kw_only=True):
    """The point that an archive holds, or the one that it holds the changes since."""

    seqno: int
    time: str
    bookmark: str | None = None
    consistency: str = ""


class ArchiveEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An archive as the catalog knows it."""

    uuid: str
    repository: str
    """uuid of the repository that the point is of."""
    kind: ArchiveKind
    point: ArchivedPoint
    since: ArchivedPoint | None = None
    parent: str | None = None
    """uuid of the archive that has ``since``; None: full."""
    volumes: tuple[str, ...] = ()
    """Names of those in it: an incremental one needs the same ones before it."""
    made: str
    state: ArchiveState = "under way"
    medium: str = ""
    pieces: int = 0
    """Complete ones."""
    stream_bytes: int = 0
    stored_bytes: int = 0
    why: str = ""
    """Why it failed or is lost."""


class PieceEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A complete piece: it and its index are on the tape."""

    archive: str
    number: int
    """From 0."""
    tape_uuid: str
    file: int
    """Tape file of the piece; its index is the next one."""
    stream_offset: int
    stream_bytes: int
    stored_bytes: int
    index_bytes: int
    sha256: str
    """Of the stored bytes, in hexadecimal digits."""


class TapeShown(TapeEntry, frozen=True, kw_only=True):
    """A tape, with what its medium says of it now."""

    written: str | None
    """``written_ns`` as a time; the same of the next one."""
    retired: str | None
    free_from: str | None
    """From then on it may be written over; None: it counts, or is protected."""
    archives: int
    """How many have a piece on it."""
    place: str | None
    """Where it is; None: it is not seen, or nobody can tell."""
    capacity_bytes: int | None
    """None: as much as the drive takes, or its medium is not to be had."""
    read_only: bool
    """Write-protected by itself, whatever the catalog says."""


class TapeStranger(msgspec.Struct, frozen=True, kw_only=True):
    """What a medium has that the catalog does not know. label: None: it is no tape, or has to be loaded to know."""

    medium: str
    place: str
    label: str | None
    blank: bool


class TapeList(msgspec.Struct, frozen=True, kw_only=True):
    """All tapes of the catalog, by label, and what else stands where they do."""

    tapes: list[TapeShown]
    strangers: list[TapeStranger]


class TapePiece(msgspec.Struct, frozen=True, kw_only=True):
    """A piece on a tape, and what it is a piece of."""

    file: int
    archive: str
    number: int
    point: ArchivedPoint
    kind: ArchiveKind
    archive_state: ArchiveState
    stored_bytes: int
    sha256: str


class TapeDetail(msgspec.Struct, frozen=True, kw_only=True):
    """One tape, and what is on it."""

    tape: TapeShown
    pieces: list[TapePiece]
    needed_by: list[str]
    """uuids of archives that cannot be read without it, oldest first."""


NeededTapeState = Literal["open", "full", "retired", "missing", "written over"]
"""``retired``: it can be read until it is written over. The last two: what is needed of it is not to be had."""


class NeededTape(msgspec.Struct, frozen=True, kw_only=True):
    """A tape that is needed for a point, as its medium has it now."""

    label: str
    uuid: str
    medium: str
    state: NeededTapeState
    protected: bool
    place: str | None
    """None: nobody has looked, or it is not there."""
    why: str
    """It is missing, written over or retired; else empty."""


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """An archive of a point, with all that it needs."""

    archive: str
    kind: ArchiveKind
    made: str
    age_s: int
    medium: str
    archives: list[str]
    """uuids of its chain, the full one first."""
    tapes: list[NeededTape]
    """In the order in which they are read."""
    lacks: list[str]
    """What is not to be had of it, for people; empty: it can be read."""
    counts: bool
    """It is a copy of the point: it can be read, and no tape of it was retired."""


class PointNeeds(msgspec.Struct, frozen=True, kw_only=True):
    """Which tapes are needed for one point."""

    point: ArchivedPoint
    age_s: int
    on_disk: bool | None
    """A bookmark stands on it. None: nobody can tell, the journal cannot be read."""
    ways: list[Way]
    """The newest first; those that cannot be read too."""


class TapeCopy(msgspec.Struct, frozen=True, kw_only=True):
    """A complete archive of a point, with all that it needs."""

    archive: str
    kind: ArchiveKind
    made: str
    age_s: int
    """Since it was made."""
    medium: str
    tapes: list[str]
    """Labels of all tapes that are needed, those of its chain too, in the order in which they are read."""


class PointCopies(msgspec.Struct, frozen=True, kw_only=True):
    """Where a point is."""

    point: ArchivedPoint
    age_s: int
    """How old the point is."""
    on_disk: bool
    """A bookmark stands on it."""
    on_tape: list[TapeCopy]
    """The oldest first."""


class CopyList(msgspec.Struct, frozen=True, kw_only=True):
    """Bookmarks that stand and points that are on tape, the oldest point first."""

    points: list[PointCopies]

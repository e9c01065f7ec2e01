"""What looking for damage finds, and what proves that the past was not rewritten.

Source: docs/command.md; the rules of model.py hold here too.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from vsnapfs.core.model import Point, Proved


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
    branches: int = 0


class BranchFindings(msgspec.Struct, frozen=True, kw_only=True):
    """What was found of branches, of which there are so many."""

    branches: int
    damages: list[Damage]


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


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What ``verify`` has come to."""

    point: Point
    bookmarks: list[str]
    """Those that carry the verdict now."""
    profile: str
    good: bool
    volumes: tuple[str, ...]
    proved: tuple[Proved, ...]
    took_s: float
    reason: str
    """Why it is not good; "": it is."""
    remarks: tuple[str, ...]
    """Which volumes were not looked at as the others, and why."""

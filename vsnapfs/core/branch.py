"""Branches as plain values: writable scratch on a point. The rules of model.py hold here too.

Source: docs/branches.md.
"""

from __future__ import annotations

from typing import Any

import msgspec

SOURCE_PREFIX = "branch:"
"""A branch where a point is taken: ``branch:NAME``. No point has this form: a bookmark may be named so all the same, and
is then written as ``@SEQNO``."""


class BranchVolume(msgspec.Struct, frozen=True, kw_only=True):
    """A volume of a branch: one that stood at its point, with the size that it had there."""

    name: str
    id: int
    size_bytes: int


class Branch(msgspec.Struct, frozen=True, kw_only=True):
    """Writable scratch on a point."""

    name: str
    id: int
    """Of no other branch of the repository, ever."""
    source: str
    """What it was made from, as it was asked for: a point, or ``branch:NAME``."""
    parent: str | None
    """The branch it was made from; it may be gone by now."""
    seqno: int
    """The point below it, which is kept as long as the branch is there."""
    time: str
    """Of that point, ISO-8601 UTC with nanoseconds."""
    bookmark: str | None
    """A bookmark at that point when the branch was made; it may be gone by now."""
    created: str
    quota_bytes: int | None
    """How much may be written to it; None: as much as there is room."""
    used_bytes: int
    """What it takes alone: its quota counts this."""
    shared_bytes: int
    """What it took over from the branch it was made from, or has in common with those made from it."""
    volumes: list[BranchVolume]
    in_use: int
    """Its volumes are open so many times."""
    note: str
    report: dict[str, Any] | None
    """What somebody who worked on it has kept with it."""
    problem: str
    """Why it cannot be opened; "": it can."""


class BranchPlace(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a branch without opening it: enough to show that it is there."""

    name: str
    id: int
    seqno: int
    time: str
    """Of its point."""
    created_ns: int
    volumes: tuple[BranchVolume, ...]


def source_branch(source: str) -> str | None:
    """The name in ``branch:NAME``; None: the source is a point."""
    return source.removeprefix(SOURCE_PREFIX) if source.startswith(SOURCE_PREFIX) else None

"""What a member of a profile can do, whatever its kind; and what a stranger needs to thaw it.

The freezer gives each member a thread of its own and calls its methods there, one after the other and each at most once, but
``thaw``:

    prepare ──▶ freeze ──▶ (the mark) ──▶ thaw
       │           │                       ▲
       └───────────┴── error, deadline ────┘

``prepare`` of all members runs before the first ``freeze``: it checks, connects, opens, and imports what will be needed, since
from the first freeze on nothing may be touched that a member could have frozen: no file is written, no module loaded.
``thaw`` is called whenever ``prepare`` was begun.

A method that goes on after ``until`` holds nobody up but its own member: the freezer has told the others to thaw by
then, and calls ``thaw`` as soon as the method has returned.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeAlias

import msgspec

from vsnapfs.core.model import Consistency, MemberFile


class Occasion(msgspec.Struct, frozen=True, kw_only=True):
    """What it is all for, as members may tell those whom they ask."""

    repository: str
    """Path of the repository, absolute."""
    profile: str
    bookmark: str
    deadline_s: float
    """Of the profile."""


class MountLifeline(NamedTuple):
    """A filesystem is thawed by an ioctl on any descriptor in it. fd: belongs to the member."""

    fd: int


class CommandLifeline(NamedTuple):
    """A program that thaws. environment: what it has beside that of the freezer."""

    argv: tuple[str, ...]
    environment: dict[str, str]


Lifeline: TypeAlias = MountLifeline | CommandLifeline


class Member(Protocol):
    """One thing to be made still. Errors are those of core.errors: TimedOutError when ``until`` has passed, UsageError for
    what must not be, whatever the profile falls back to, QuiesceError for the rest; one line each, naming what was tried on what.

    ``until`` is a reading of time.monotonic(): no wait of a method goes on beyond it.
    """

    name: str
    kind: str
    consistency: Consistency
    """What the bookmark has of this member when ``freeze`` has returned."""
    files: tuple[MemberFile, ...]
    """Set by ``thaw``, if at all; FILES_BYTES_MAX as JSON."""

    def prepare(self, until: float) -> None:
        """Everything that can go wrong or takes time and needs nobody to be still."""

    def lifeline(self) -> Lifeline | None:
        """Asked right before ``prepare`` and right before ``freeze``: how the guard is to thaw this member if the freezer dies in
        it, or later. None: there is nothing to thaw yet; or what is frozen hangs on a connection of the freezer, and goes
        with it."""

    def freeze(self, until: float) -> None:
        """Return when it is still. Whatever is raised, ``thaw`` follows."""

    def thaw(self) -> None:
        """Let it go, and close what ``prepare`` has opened. Bounded by itself: THAW_S_MAX. Again: nothing happens. Of what was
        not frozen by this member: nothing happens. Raises: NotStillError: it was not still until now, so that the mark is worth
        nothing. Any other VsnapfsError: it may be frozen still."""


THAW_S_MAX = 10.0
"""A thaw that takes longer is given up: the member is reported as perhaps still frozen."""

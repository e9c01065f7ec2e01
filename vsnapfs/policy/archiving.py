"""``[archive.NAME]`` of ``vsnapfs.toml``: which bookmarks go onto which medium by themselves, and what stays for it.

What follows from it for the bookmarks and archives that there are: policy.archive_choice.

Source: docs/archive-policy.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Annotated, Literal, get_args

import msgspec

from vsnapfs.core.errors import UsageError
from vsnapfs.core.names import check_name
from vsnapfs.core.units import parse_size
from vsnapfs.policy.media import CommandSettings, MediumSettings
from vsnapfs.policy.periods import Period
from vsnapfs.policy.retention import span_of
from vsnapfs.policy.schedule import LOCAL, Timing

NTH_MAX = 1_000_000
PERIODS: tuple[str, ...] = get_args(Period)
FULL = ("always", "once", *PERIODS)

Nth = Annotated[int, msgspec.Meta(ge=1, le=NTH_MAX)]


class ArchivePolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """Bookmarks that are to be on a medium."""

    bookmarks: str | tuple[str, ...]
    """Patterns as the shell has them: of these names."""
    to: str
    """The medium, ``[media.NAME]``."""
    which: Literal["all", "first", "last"] = "all"
    """Of those that fit: each, or the first or last one of each period."""
    per: Literal["", "hour", "day", "week", "month", "year"] = ""
    nth: Nth = 1
    """With ``all``: one of so many, counted from the last that is archived."""
    within: str = ""
    """Only points of so long ago; empty: however old."""
    volumes: tuple[str, ...] = ()
    """Empty: all that stand at the point."""
    full: str | int = "always"
    """Which archives are full: each, the first alone (``once``), the first of each period, or each n-th. Others are incremental."""
    cron: str = ""
    """When a server begins; empty: as soon as there is something."""
    timezone: str = LOCAL
    """Of ``cron``."""
    protect: str = ""
    """So long retention leaves a bookmark that is not archived yet; empty: not at all."""
    verify: bool = False
    compress: bool = False
    rate: str = ""

    def __post_init__(self) -> None:
        if not self.patterns or not all(self.patterns):
            raise ValueError('bookmarks: there is no pattern; all bookmarks are "*"')
        self._check_which()
        self._check_full()
        if self.rate_bytes == 0:
            raise ValueError("rate: nothing would ever be written; leave it out for no limit")
        _ = self.within_ns, self.protect_ns, self.timing  # that they can be read
        if self.within_ns is not None and self.protect_ns > self.within_ns:
            raise ValueError(
                f"protect: what is older than `within`, {self.within}, is not wanted any more, and does not stay"
            )

    def _check_which(self) -> None:
        if self.which == "all" and self.per:
            raise ValueError(f'per: say which of each {self.per}, with which = "first" or "last"')
        if self.which != "all" and not self.per:
            raise ValueError(f"per: the {self.which} of what? One of {', '.join(PERIODS)}")
        if self.nth > 1 and self.which != "all":
            raise ValueError(f"nth: it counts all bookmarks, not the {self.which} of each {self.per}")
        if self.nth > 1 and not self.protect:
            raise ValueError("nth: bookmarks that go are not counted; give `protect`, longer than so many take")

    def _check_full(self) -> None:
        if isinstance(self.full, int):
            if isinstance(self.full, bool) or not 2 <= self.full <= NTH_MAX:
                raise ValueError(f'full: every n-th is from 2 on, not {self.full}; each is "always"')
        elif self.full not in FULL:
            raise ValueError(f"full: {self.full!r} is neither a number nor one of {', '.join(FULL)}")

    @cached_property
    def patterns(self) -> tuple[str, ...]:
        return (self.bookmarks,) if isinstance(self.bookmarks, str) else self.bookmarks

    def fits(self, name: str) -> bool:
        """Bookmarks of that name are meant."""
        return any(fnmatchcase(name, pattern) for pattern in self.patterns)

    @cached_property
    def within_ns(self) -> int | None:
        return span_of("within", self.within)

    @cached_property
    def protect_ns(self) -> int:
        """0: nothing is protected."""
        return span_of("protect", self.protect) or 0

    @cached_property
    def timing(self) -> Timing | None:
        """None: at any time."""
        return Timing(cron=self.cron, timezone=self.timezone) if self.cron else None

    @property
    def rate_bytes(self) -> int | None:
        """A second; None: as the medium says."""
        try:
            return parse_size(self.rate) if self.rate else None
        except UsageError as error:
            raise ValueError(f"rate: {error}") from error

    @property
    def said(self) -> str:
        """For people."""
        which = "all" if self.which == "all" else f"{self.which} of each {self.per}"
        which = f"one in {self.nth}" if self.nth > 1 else which
        when = f", cron {self.cron}" if self.cron else ""
        return f"{which} of {' '.join(self.patterns)} to {self.to}{when}"


def check_policies(policies: Mapping[str, ArchivePolicy], media: Mapping[str, MediumSettings]) -> None:
    """What can be said only of all of the settings. Raises: ValueError."""
    for name, policy in policies.items():
        try:
            check_name(name, "policy")
            for volume in policy.volumes:
                check_name(volume, "volume")
        except UsageError as error:
            raise ValueError(f"archive: {name}: {error}") from error
        if policy.to not in media:
            raise ValueError(f"archive: {name}: there is no medium [media.{policy.to}]")
        medium = media[policy.to]
        if policy.verify and isinstance(medium, CommandSettings) and not medium.read:
            raise ValueError(f"archive: {name}: verify: [media.{policy.to}] has no `read`, so nothing can be read back")

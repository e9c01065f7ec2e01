"""``[verify.NAME]`` of ``vsnapfs.toml``: how it is proved that points can be restored, and when a server does it by itself.

Pure: which bookmarks are due follows from those that stand and the verdicts that they carry.

Source: docs/verify.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Literal

from vsnapfs.core.errors import UsageError
from vsnapfs.core.model import Bookmark
from vsnapfs.core.names import check_name
from vsnapfs.core.units import parse_size
from vsnapfs.policy.commands import check_command, timeout_seconds
from vsnapfs.policy.schedule import Timing

TIMEOUT_S_MAX = 24 * 3600.0
RUN_BOOKMARKS_MAX = 64
"""One run verifies so many at most; the next one goes on."""


class Verification(Timing, frozen=True, forbid_unknown_fields=True, dict=True):
    """A proof that a point is good: it is put on a throw-away branch, mounted, checked, and given to a command."""

    bookmarks: Literal["newest", "each"] = "newest"
    """Which of them, when it is due: the newest one, or each that was made since the last that this has verified."""
    names: str = "*"
    """A pattern as the shell has it: of these alone."""
    volumes: tuple[str, ...] = ()
    """Empty: all that stand at the point."""
    mount: bool = True
    check: bool = True
    """The filesystem of each volume."""
    command: tuple[str, ...] = ()
    """A program and its arguments; empty: none is run."""
    timeout: str = "10min"
    """Of the command, and of the check of each filesystem."""
    quota: str = ""
    """What may be written to the branch; empty: as much as there is room for."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.mount or self.check or self.command):
            raise ValueError("nothing would be proved: mount, check a filesystem, or run a command")
        check_command(self.command)
        if not 0 < self.timeout_s <= TIMEOUT_S_MAX:
            raise ValueError(f"timeout: {self.timeout} is not in 1ns to 1d")
        if self.quota_bytes == 0:
            raise ValueError("quota: nothing could be written; leave it out for no limit")

    @property
    def timeout_s(self) -> float:
        """Raises: ValueError: no duration."""
        return timeout_seconds(self.timeout)

    @property
    def quota_bytes(self) -> int | None:
        """None: there is no limit. Raises: ValueError: no size."""
        try:
            return parse_size(self.quota) if self.quota else None
        except UsageError as error:
            raise ValueError(f"quota: {error}") from error

    @property
    def when(self) -> str:
        """For people."""
        return self.said if self.is_timed else "when asked"


def due(name: str, verification: Verification, bookmarks: Iterable[Bookmark]) -> list[Bookmark]:
    """Which bookmarks a run of the profile ``name`` verifies now, the oldest point first. bookmarks: by their point."""
    fitting = [each for each in bookmarks if fnmatchcase(each.name, verification.names)]
    if verification.bookmarks == "newest":
        return fitting[-1:]
    verified = [each.created_seqno for each in fitting if any(verdict.profile == name for verdict in each.verdicts)]
    if not verified:
        return fitting[-1:]
    return [each for each in fitting if each.created_seqno > max(verified)][:RUN_BOOKMARKS_MAX]


def check_verifications(verifications: Mapping[str, Verification]) -> None:
    """What can be said only of all of the settings. Raises: ValueError."""
    for name, verification in verifications.items():
        try:
            check_name(name, "profile")
            for volume in verification.volumes:
                check_name(volume, "volume")
        except UsageError as error:
            raise ValueError(f"verify: {name}: {error}") from error

"""``[events]`` of ``vsnapfs.toml``: the command that is run for each event."""

from __future__ import annotations

import msgspec

from vsnapfs.core.errors import UsageError
from vsnapfs.core.events import EventKind
from vsnapfs.core.times import NS_PER_S
from vsnapfs.core.units import parse_duration

TIMEOUT_S_MAX = 600


class EventsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[events]``."""

    command: tuple[str, ...] = ()
    """A program and its arguments; empty: none is run."""
    kinds: tuple[EventKind, ...] = ()
    """For these alone; empty: for all."""
    timeout: str = "30s"

    def __post_init__(self) -> None:
        if self.command and not self.command[0]:
            raise ValueError("command: the program has no name")
        if any("\0" in word for word in self.command):
            raise ValueError("command: a word has a zero byte")
        if not 0 < self.timeout_s <= TIMEOUT_S_MAX:
            raise ValueError(f"timeout: {self.timeout} is not in 1ns to {TIMEOUT_S_MAX}s")

    @property
    def timeout_s(self) -> float:
        """Raises: ValueError: no duration."""
        try:
            return parse_duration(self.timeout) / NS_PER_S
        except UsageError as error:
            raise ValueError(f"timeout: {error}") from error

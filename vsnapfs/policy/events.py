"""``[events]`` of ``vsnapfs.toml``: the command that is run for each event."""

from __future__ import annotations

import msgspec

from vsnapfs.core.events import EventKind
from vsnapfs.policy.commands import check_command, timeout_seconds

TIMEOUT_S_MAX = 600


class EventsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[events]``."""

    command: tuple[str, ...] = ()
    """A program and its arguments; empty: none is run."""
    kinds: tuple[EventKind, ...] = ()
    """For these alone; empty: for all."""
    timeout: str = "30s"

    def __post_init__(self) -> None:
        check_command(self.command)
        if not 0 < self.timeout_s <= TIMEOUT_S_MAX:
            raise ValueError(f"timeout: {self.timeout} is not in 1ns to {TIMEOUT_S_MAX}s")

    @property
    def timeout_s(self) -> float:
        """Raises: ValueError: no duration."""
        return timeout_seconds(self.timeout)

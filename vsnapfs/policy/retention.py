"""``[retention]``: how far back any instant stays, which bookmarks stay after that, and when the rest goes.

Meaning of each key: docs/settings.md; the rules themselves: policy.keep.
"""

from __future__ import annotations

from datetime import UTC, tzinfo
from fnmatch import fnmatchcase
from typing import Annotated
from zoneinfo import ZoneInfo

import msgspec

from vsnapfs.core.errors import UsageError
from vsnapfs.core.times import NS_PER_S
from vsnapfs.core.units import parse_duration, parse_size

PRUNE_AUTO_NS = 3600 * NS_PER_S
"""Of ``prune = "auto"``, where there is a rule."""

HowMany = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]


class KeepRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which bookmarks stay after the protection window. 0 and "": the rule does not speak; if none does, all stay."""

    keep_last: HowMany = 0
    keep_within: str = ""
    keep_hourly: HowMany = 0
    keep_daily: HowMany = 0
    keep_weekly: HowMany = 0
    keep_monthly: HowMany = 0
    keep_yearly: HowMany = 0

    def __post_init__(self) -> None:
        span_of("keep_within", self.keep_within)

    @property
    def keep_within_ns(self) -> int:
        return span_of("keep_within", self.keep_within) or 0

    @property
    def speak(self) -> bool:
        """True if any of them does."""
        return any(getattr(self, name) for name in KeepRules.__struct_fields__)


class RetentionSettings(KeepRules, frozen=True, forbid_unknown_fields=True):
    """``[retention]``. The rules in it are for bookmarks that no pattern in ``names`` fits."""

    protection_window: str = ""
    minimum_age: str = ""
    maximum_size: str = ""
    timezone: str = "UTC"
    prune: str = "auto"
    names: dict[str, KeepRules] = {}
    """``[retention.names."PATTERN"]``: patterns as the shell has them; the first that fits a bookmark's name counts."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("protection_window", "minimum_age"):
            span_of(name, getattr(self, name))
        if self.prune not in ("auto", "off"):
            span_of("prune", self.prune)
        _ = self.maximum_size_bytes, self.zone
        if self.bounded and not self.protection_window:
            raise ValueError(
                "protection_window: it has to be said where bookmarks are dropped: so far back any instant stays"
            )

    @property
    def protection_window_ns(self) -> int | None:
        """None: nothing was promised, and every instant stays."""
        return span_of("protection_window", self.protection_window)

    @property
    def minimum_age_ns(self) -> int:
        return span_of("minimum_age", self.minimum_age) or 0

    @property
    def maximum_size_bytes(self) -> int | None:
        """Of journal and bases together; None: no limit."""
        if not self.maximum_size:
            return None
        try:
            return parse_size(self.maximum_size)
        except UsageError as error:
            raise ValueError(f"maximum_size: {error}") from error

    @property
    def zone(self) -> tzinfo:
        """Where days, weeks, months and years begin."""
        if self.timezone == "UTC":
            return UTC
        try:
            return ZoneInfo(self.timezone)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(f"timezone: this machine does not know {self.timezone!r}") from error

    @property
    def bounded(self) -> bool:
        """True if bookmarks are dropped at all."""
        return self.speak or bool(self.maximum_size) or any(rules.speak for rules in self.names.values())

    @property
    def prune_every_ns(self) -> int | None:
        """How often a server prunes; None: never by itself."""
        if self.prune == "auto":
            return PRUNE_AUTO_NS if self.bounded else None
        return None if self.prune == "off" else span_of("prune", self.prune)

    def rules_of(self, name: str) -> tuple[str, KeepRules]:
        """The pattern that decides on a bookmark, "" for that of all others, and its rules."""
        for pattern, rules in self.names.items():
            if fnmatchcase(name, pattern):
                return pattern, rules
        return "", self


def span_of(key: str, text: str) -> int | None:
    """Nanoseconds; None: nothing was said. Raises: ValueError, which names the key: no duration, or none at all."""
    if not text:
        return None
    try:
        span_ns = parse_duration(text)
    except UsageError as error:
        raise ValueError(f"{key}: {error}") from error
    if span_ns == 0:
        raise ValueError(f"{key}: {text} is no time")
    return span_ns

"""Which bookmarks stay, and why. Pure: the same facts give the same answer, so a preview is what will happen.

Ages are journal time: ``now`` is the time of the newest record, and no later than the clock is believed (repository.roots), so
neither a clock that jumps nor a journal that stands still drops anything.

A bookmark stays for certain while it is held, somebody has it open, its point is in the protection window, it was made
less than ``minimum_age`` ago, or it is to be archived first. Else the rules of its name
decide, each by itself, over all bookmarks with the same rules:

* keep_last: the newest n
* keep_within: those of so long before now
* keep_hourly … keep_yearly: the newest of each of the last n hours … years that have one; periods without one do not count

Where no rule speaks, it stays. ``maximum_size`` then drops the oldest of those that do not stay for certain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from vsnapfs.core.times import iso
from vsnapfs.policy.periods import Period, period_of
from vsnapfs.policy.retention import KeepRules, RetentionSettings


class Candidate(NamedTuple):
    """What counts of a bookmark."""

    name: str
    seqno: int
    time_ns: int
    """Of its point."""
    created_seqno: int
    created_ns: int
    """When it was made: later than its point, if that was past then."""
    held: bool = False
    hold_until_ns: int | None = None

    def is_held(self, now_ns: int) -> bool:
        """A hold counts until its time, by the journal's."""
        return self.held and (self.hold_until_ns is None or now_ns < self.hold_until_ns)


class Fate(msgspec.Struct, frozen=True):
    """What becomes of a bookmark."""

    candidate: Candidate
    certain: tuple[str, ...] = ()
    """Why no rule is asked."""
    rules: tuple[str, ...] = ()
    """The rules that keep it."""
    too_large: bool = False
    """``maximum_size`` drops it, whatever the rules say."""

    @property
    def stays(self) -> bool:
        return bool(self.certain) or (bool(self.rules) and not self.too_large)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it stays, or why it goes."""
        if self.stays:
            return self.certain + self.rules
        return ("maximum size",) if self.too_large else ("no rule keeps it",)


class Facts(NamedTuple):
    """What is known besides the bookmarks."""

    now_ns: int
    """The journal's time."""
    window_seqno: int
    """The first point of the protection window."""
    in_use: Mapping[int, str] = {}
    """By whom, of each point that somebody has open."""
    archiving: Mapping[str, str] = {}
    """Of each bookmark that a policy of archives keeps: why (policy.archive_choice)."""


def window_begin_ns(now_ns: int, settings: RetentionSettings) -> int:
    """From this time on any instant stays. 0: everything does."""
    span_ns = settings.protection_window_ns
    return 0 if span_ns is None else max(0, now_ns - span_ns)


def decide(candidates: Sequence[Candidate], facts: Facts, settings: RetentionSettings) -> list[Fate]:
    """The fate of each, in the order of points. ``maximum_size`` is not looked at (``shrink``)."""
    ordered = sorted(candidates, key=lambda candidate: (candidate.seqno, candidate.created_seqno))
    kept_by: dict[str, list[str]] = {candidate.name: [] for candidate in ordered}
    groups: dict[str, tuple[KeepRules, list[Candidate]]] = {}
    for candidate in reversed(ordered):
        pattern, rules = settings.rules_of(candidate.name)
        groups.setdefault(pattern, (rules, []))[1].append(candidate)
    for rules, newest_first in groups.values():
        _ask(rules, newest_first, facts.now_ns, settings, kept_by)
    return [
        Fate(candidate, _certain(candidate, facts, settings), tuple(kept_by[candidate.name])) for candidate in ordered
    ]


def shrink(fates: Sequence[Fate], fits: Callable[[Sequence[Fate]], bool]) -> list[Fate]:
    """Drop the oldest that may go until the rest fits, or no other may go. fits: of such a list; dropping never makes it fit
    less. It is asked for the logarithm of their number at most."""
    may_go = [index for index, fate in enumerate(fates) if fate.stays and not fate.certain]

    def without(count: int) -> list[Fate]:
        gone = set(may_go[:count])
        return [
            msgspec.structs.replace(fate, too_large=True) if index in gone else fate for index, fate in enumerate(fates)
        ]

    low, high = 0, len(may_go)
    while low < high:
        middle = (low + high) // 2
        if fits(without(middle)):
            high = middle
        else:
            low = middle + 1
    return without(low)


def _certain(candidate: Candidate, facts: Facts, settings: RetentionSettings) -> tuple[str, ...]:
    reasons = []
    if candidate.is_held(facts.now_ns):
        until = "" if candidate.hold_until_ns is None else f" until {iso(candidate.hold_until_ns)}"
        reasons.append(f"held{until}")
    if candidate.seqno in facts.in_use:
        reasons.append(facts.in_use[candidate.seqno])
    if candidate.seqno >= facts.window_seqno:
        reasons.append("protection window")
    if facts.now_ns - candidate.created_ns < settings.minimum_age_ns:
        reasons.append("minimum age")
    if candidate.name in facts.archiving:
        reasons.append(facts.archiving[candidate.name])
    return tuple(reasons)


def _ask(
    rules: KeepRules,
    newest_first: Sequence[Candidate],
    now_ns: int,
    settings: RetentionSettings,
    kept_by: Mapping[str, list[str]],
) -> None:
    """Note for each candidate which of the rules keep it."""
    if not rules.speak:
        for candidate in newest_first:
            kept_by[candidate.name].append("no rule")
        return
    for number, candidate in enumerate(newest_first[: rules.keep_last], 1):
        kept_by[candidate.name].append(f"last {number}")
    for candidate in newest_first if rules.keep_within else ():
        if now_ns - candidate.time_ns <= rules.keep_within_ns:
            kept_by[candidate.name].append(f"within {rules.keep_within}")
    for rule, kind in _RULES.items():
        left, last = getattr(rules, f"keep_{rule}"), ""
        for candidate in newest_first:
            if not left:
                break
            period = period_of(kind, candidate.time_ns, settings.zone)
            if period != last:
                kept_by[candidate.name].append(f"{rule} {period}")
                left, last = left - 1, period


_RULES: dict[str, Period] = {
    "hourly": "hour",
    "daily": "day",
    "weekly": "week",
    "monthly": "month",
    "yearly": "year",
}
"""By rule: the periods that it counts."""

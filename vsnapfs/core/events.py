"""Events: what happened to a repository, as a closed list of kinds. Each kind has one severity and one text, in the log
and in the table alike.

What an event tells beside that is its ``subject`` (the name of a bookmark, a volume, a schedule; "" for the repository)
and its ``detail``, a JSON object. docs/events.md says what each kind's detail has.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import msgspec

from vsnapfs.core.times import iso

TEXT_LENGTH_MAX = 500
LIST_LENGTH_MAX = 20
DEPTH_MAX = 4
DETAIL_BYTES_MAX = 8192

Severity = Literal["info", "warning", "error"]

EventKind = Literal[
    "served",
    "ended",
    "taken_over",
    "tail_cut",
    "catalog_remade",
    "bookmark_added",
    "bookmark_failed",
    "bookmark_missed",
    "bookmark_fell_back",
    "bookmark_undecided",
    "still_frozen",
    "bookmark_removed",
    "bookmark_held",
    "bookmark_released",
    "branch_added",
    "branch_removed",
    "volume_added",
    "volume_removed",
    "volume_resized",
    "volume_resynced",
    "imported",
    "restored",
    "gap_begun",
    "gap_closed",
    "journal_failed",
    "primary_failed",
    "clock_jumped",
    "housekeeping_failed",
    "window_short",
    "window_well",
    "damage_found",
    "scrub_ended",
    "pruned",
    "prune_failed",
    "compacted",
    "compaction_failed",
    "base_moved",
    "verified",
    "verify_failed",
    "verify_missed",
    "archived",
    "archive_failed",
    "archive_given_up",
    "hook_failed",
    "events_dropped",
]


class Wording(NamedTuple):
    """How a kind is told."""

    severity: Severity
    text: str


KINDS: dict[EventKind, Wording] = {
    "served": Wording("info", "serving"),
    "ended": Wording("info", "ended"),
    "taken_over": Wording("warning", "took over what the worker before had answered and not yet written"),
    "tail_cut": Wording("warning", "cut a torn tail, never acknowledged, kept as journal/*.torn"),
    "catalog_remade": Wording("warning", "the catalog was made again"),
    "bookmark_added": Wording("info", "bookmark made"),
    "bookmark_failed": Wording("error", "bookmark failed"),
    "bookmark_missed": Wording("warning", "bookmark missed"),
    "bookmark_fell_back": Wording("warning", "not all were still: the bookmark is as after a crash"),
    "bookmark_undecided": Wording(
        "warning", "a bookmark over several repositories is not decided, the first cannot be asked"
    ),
    "still_frozen": Wording("error", "a member of a profile may be frozen still"),
    "bookmark_removed": Wording("info", "bookmark removed"),
    "bookmark_held": Wording("info", "bookmark held"),
    "bookmark_released": Wording("info", "bookmark released"),
    "branch_added": Wording("info", "branch made"),
    "branch_removed": Wording("info", "branch removed"),
    "volume_added": Wording("info", "volume added"),
    "volume_removed": Wording("info", "volume removed"),
    "volume_resized": Wording("info", "volume resized"),
    "volume_resynced": Wording("info", "volume compared with the journal"),
    "imported": Wording("info", "images imported"),
    "restored": Wording("info", "live volume restored"),
    "gap_begun": Wording("error", "a gap: writes are not journalled"),
    "gap_closed": Wording("warning", "the gap is closed, writes are journalled again"),
    "journal_failed": Wording("error", "the journal failed, see vsnapfs status"),
    "primary_failed": Wording("error", "a primary failed, see vsnapfs status"),
    "clock_jumped": Wording("warning", "the clock stood or went back; order is kept"),
    "housekeeping_failed": Wording("error", "housekeeping failed"),
    "window_short": Wording("warning", "the window will be shorter than promised"),
    "window_well": Wording("info", "the window will be as long as promised again"),
    "damage_found": Wording("error", "the scrub found damage"),
    "scrub_ended": Wording("info", "the scrub has read everything"),
    "pruned": Wording("info", "pruned"),
    "prune_failed": Wording("error", "pruning failed"),
    "compacted": Wording("info", "compacted"),
    "compaction_failed": Wording("error", "compaction failed"),
    "base_moved": Wording("info", "a base was moved"),
    "verified": Wording("info", "the point was verified: it is good"),
    "verify_failed": Wording("error", "the point was not shown to be good"),
    "verify_missed": Wording("warning", "verification missed"),
    "archived": Wording("info", "the bookmark was archived"),
    "archive_failed": Wording("error", "the bookmark was not archived"),
    "archive_given_up": Wording("error", "the bookmark is gone, and was not archived"),
    "hook_failed": Wording("warning", "the command for events failed"),
    "events_dropped": Wording("warning", "events were not told to the command, too many came at once"),
}

EVENT_KINDS: tuple[EventKind, ...] = get_args(EventKind)


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened. ``id``: position in the table, from 1; greater for what was told later."""

    id: int
    time: str
    time_ns: int
    """Of the clock when it was told; unlike the journal's times it may stand or go back."""
    kind: str
    """One of EVENT_KINDS; another version may have written others."""
    severity: Severity
    subject: str
    text: str
    detail: dict[str, Any]


def event(number: int, time_ns: int, kind: EventKind, subject: str, detail: dict[str, Any]) -> Event:
    """An event of a known kind. detail: any values; what is too long is cut, and what JSON does not have becomes text."""
    severity, text = KINDS[kind]
    return Event(
        id=number,
        time=iso(time_ns),
        time_ns=time_ns,
        kind=kind,
        severity=severity,
        subject=_plain(subject, 0),
        text=text,
        detail=_fitting(detail),
    )


def text_of(kind: str) -> str:
    """What the log says of a kind; of one that this version does not know, the kind itself."""
    return next((told.text for known, told in KINDS.items() if known == kind), kind)


def _fitting(detail: dict[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = _plain(detail, 0)
    if len(msgspec.json.encode(plain)) <= DETAIL_BYTES_MAX:
        return plain
    return {name: value for name, value in plain.items() if not isinstance(value, dict | list)} | {"cut": True}


def _plain(value: Any, depth: int) -> Any:
    """As JSON has it, and bounded."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, dict) and depth < DEPTH_MAX:
        members = list(value.items())[:LIST_LENGTH_MAX]
        return {str(_plain(str(name), depth)): _plain(member, depth + 1) for name, member in members}
    if isinstance(value, list | tuple) and depth < DEPTH_MAX:
        return [_plain(member, depth + 1) for member in value[:LIST_LENGTH_MAX]]
    return str(value)[:TEXT_LENGTH_MAX].encode(errors="backslashreplace").decode()

"""Whether the records between two points can be written again onto a branch of the first: what else happened to the volumes."""

from __future__ import annotations

from typing import NamedTuple

from vsnapfs.binding import Event, RecordKind
from vsnapfs.core.errors import UsageError
from vsnapfs.core.times import iso
from vsnapfs.core.units import format_size
from vsnapfs.replay.choice import Choice
from vsnapfs.replay.plan import Plan


class Reach(NamedTuple):
    """``sizes``: of the branch's volumes, by id. ``names``: of all volumes there ever were. ``events``: between the two points."""

    since: int
    sizes: dict[int, int]
    names: dict[int, str]
    events: list[Event]


def refuse_growth(reach: Reach, choice: Choice) -> None:
    """Raises: UsageError: a volume grew beyond its size at the first point, which is that of the branch's."""
    for event in reach.events:
        size_bytes = reach.sizes.get(event.volume)
        if event.kind != RecordKind.VOLUME_RESIZE or size_bytes is None or not choice.takes(event.volume):
            continue
        if event.b > size_bytes:
            name = reach.names[event.volume]
            raise UsageError(
                f"volume {name} grew to {format_size(event.b)} by @{event.seqno}, and its branch of @{reach.since} has "
                f"{format_size(size_bytes)}",
                volume=name,
                seqno=event.seqno,
                hint=f"end before it (--to @{event.seqno - 1}), begin behind it, or leave it out (--skip-volume {name})",
            )


def refuse_strangers(reach: Reach, plan: Plan) -> None:
    """Raises: UsageError: a write that is kept is of a volume that the branch does not have, or lies behind its end."""
    for number, planned in plan.volumes.items():
        name = reach.names.get(number, f"number {number}")
        if planned.applied_bytes and number not in reach.sizes:
            raise UsageError(
                f"volume {name} was added after @{reach.since}, so a branch of that has none to write to",
                volume=name,
                hint=f"begin behind that, or leave it out (--skip-volume {name})",
            )
        if planned.end_bytes > reach.sizes.get(number, planned.end_bytes):
            raise UsageError(
                f"the write @{planned.end_seqno} goes beyond the end of volume {name} as it was at @{reach.since}",
                volume=name,
                seqno=planned.end_seqno,
            )


def notes(reach: Reach, choice: Choice) -> list[str]:
    """What is different on the branch, or not known, though all that could be written again was."""
    return [_note(reach, event) for event in reach.events if _matters(reach, choice, event)]


def _matters(reach: Reach, choice: Choice, event: Event) -> bool:
    if event.kind == RecordKind.GAP_END:
        return True
    known = event.volume in reach.sizes and choice.takes(event.volume)
    return known and event.kind in (RecordKind.VOLUME_RESIZE, RecordKind.VOLUME_REMOVE)


def _note(reach: Reach, event: Event) -> str:
    name = reach.names.get(event.volume, "")
    if event.kind == RecordKind.GAP_END:
        return (
            f"from {iso(event.a)} to {iso(event.time_ns)} the journal knows only what differed afterwards (up to @{event.seqno}), "
            "not who wrote it"
        )
    if event.kind == RecordKind.VOLUME_REMOVE:
        return f"volume {name} was removed by @{event.seqno}: the branch keeps it"
    kept = format_size(reach.sizes[event.volume])
    return f"volume {name} was resized to {format_size(event.b)} by @{event.seqno}: the branch keeps {kept}, zeros behind that"

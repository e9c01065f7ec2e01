"""Gaps: times in which the journal could not take writes, and volumes went on without it.

A gap begins behind the last committed record. When the journal works again a record tells of it, what may differ is
compared with the primaries and journalled, and another record ends it. No point in between can be made or read: what a
volume held then is not known.

Source: native/include/journal.h; native/FORMAT.md sections 2.2 and 7.
"""

from __future__ import annotations

import os

from vsnapfs.binding import JournalFacts
from vsnapfs.catalog.index import GapEntry
from vsnapfs.core.errors import BusyError, GapError
from vsnapfs.core.state import Gap, Progress
from vsnapfs.core.times import iso
from vsnapfs.repository import events, identity
from vsnapfs.repository.parts import Parts, Report

COMMIT_BYTES = 64 << 20
"""Journalled between two commits."""
ROUNDS_MAX = 8
"""The second finds what was on its way to a primary while the first compared; from then on all is journalled."""


def entries(parts: Parts, facts: JournalFacts) -> list[GapEntry]:
    """All that are known, in the order of time; the last one may be open, and not in the journal yet. facts: asked before, so
    that one which is closed meanwhile is in the index."""
    with parts.names:
        known = parts.index.gaps()
    if facts.gap and not (known and known[-1].end_seqno is None):
        unnoted = GapEntry(
            begin_seqno=facts.committed_seqno + 1,
            since_seqno=facts.gap_since_seqno,
            since_ns=facts.gap_since_ns,
            reason=os.strerror(-facts.gap_reason),
        )
        known.append(unnoted)
    return known


def listed(parts: Parts, facts: JournalFacts) -> list[Gap]:
    """For people and programs."""
    return [
        Gap(
            since=iso(gap.since_ns),
            since_seqno=gap.since_seqno,
            until=None if gap.end_ns is None else iso(gap.end_ns),
            until_seqno=gap.end_seqno,
            reason=gap.reason,
            changed_bytes=facts.changed_bytes if gap.end_seqno is None else 0,
        )
        for gap in entries(parts, facts)
    ]


def refuse_seqno(parts: Parts, text: str, seqno: int) -> None:
    """Raises: GapError: the point lies in a gap."""
    for gap in entries(parts, parts.journal.facts()):
        if gap.holds_seqno(seqno):
            raise _in_gap(text, gap)


def refuse_time(parts: Parts, text: str, time_ns: int) -> None:
    """Raises: GapError: the point lies in a gap."""
    for gap in entries(parts, parts.journal.facts()):
        if gap.holds_time(time_ns):
            raise _in_gap(text, gap)


def refuse_now(parts: Parts, what: str) -> None:
    """Raises: GapError: nothing of now can be named."""
    facts = parts.journal.facts()
    if facts.gap:
        gap = entries(parts, facts)[-1]
        raise GapError(
            f"{what} cannot be made: writes are not protected since {iso(gap.since_ns)} ({gap.reason})",
            seqno=gap.since_seqno,
            hint="`vsnapfs volume resync` when the journal works again",
        )


def close(parts: Parts, report: Report) -> int:
    """Take the journal up again, and journal what volumes hold that it does not know. Volumes stay in use.

    Returns the bytes that differed; 0 also where there is no gap. Raises: BusyError: something may differ still. NoSpaceError,
    StoreError: the journal does not work yet; the gap goes on. IntegrityError: it does not read back as it was committed.
    """
    parts.require_owner()
    with parts.working("the closing of a gap"):
        if not parts.journal.facts().gap:
            return 0
        take_up(parts)
        changed = 0
        for _ in range(ROUNDS_MAX):
            changed += sum(_resync(parts, volume, report) for volume in list(parts.primaries))
            if parts.journal.gap_close():
                break
        else:
            raise BusyError("volumes may still differ from the journal", hint="`vsnapfs volume resync` compares again")
        with parts.change:
            parts.catch_up()
        events.tell(parts, "gap_closed", changed_bytes=changed)
        return changed


def take_up(parts: Parts, *, in_reserve: bool = False) -> None:
    """Have the journal take records again, the first of which tells of the gap. in_reserve: no more than events, where the disk is
    full. Raises: as ``close``."""
    identity.add_feature(parts.layout, identity.GAPS)
    parts.journal.revive(in_reserve=in_reserve)
    with parts.change:
        parts.catch_up()  # the index holds the gap until its end is in there too


def _resync(parts: Parts, volume: int, report: Report) -> int:
    """From the beginning each time: what was compared before the journal failed once more may differ again."""
    with parts.names:
        entry = parts.index.volume_by_id(volume)
    name = entry.name if entry else str(volume)
    changed, pending, at = 0, 0, 0
    while (piece := parts.journal.next_changed(volume, at)) is not None:
        offset_bytes, length_bytes = piece
        at = offset_bytes + length_bytes
        found = parts.journal.resync(volume, offset_bytes, length_bytes)
        changed, pending = changed + found, pending + found
        if pending >= COMMIT_BYTES:
            parts.journal.commit()
            pending = 0
        parts.tell(report, Progress(what=f"resync of {name}", done=at, total=entry.size_bytes if entry else at))
    return changed


def _in_gap(text: str, gap: GapEntry) -> GapError:
    until = f"to {iso(gap.end_ns)} (@{gap.end_seqno})" if gap.end_ns is not None else "on"
    reason = f", when the journal failed ({gap.reason})" if gap.reason else ""
    return GapError(
        f"{text} is in a gap, which is from {iso(gap.since_ns)} (after @{gap.since_seqno}) {until}{reason}",
        seqno=gap.since_seqno,
        hint="take a point before or after it",
    )

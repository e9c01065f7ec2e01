"""A plan: what was measured, what is proposed, and the settings that say so."""

from __future__ import annotations

import os

import msgspec

from vsnapfs.core.errors import UsageError
from vsnapfs.core.keeping import Plan, Rates
from vsnapfs.core.units import duration_text, format_size
from vsnapfs.policy.edited import edited
from vsnapfs.policy.plan import HEADROOM, REPLAY_BYTES_PER_S, Answers, Measured, Proposal, propose
from vsnapfs.repository import rates, settings
from vsnapfs.repository.layout import BASE, SETTINGS
from vsnapfs.repository.parts import Parts
from vsnapfs.repository.reading import volume_at
from vsnapfs.repository.resolve import window

HOUR_S = 3600.0


def plan(parts: Parts, noticed_in_s: float, recover_in_s: float) -> Plan:
    """What to say in the settings, by what was written so far. Raises: DegradedError: that is not known yet. UsageError: no time."""
    if noticed_in_s < 60 or recover_in_s < 60:
        raise UsageError("a plan needs times of a minute and more", hint="such as --noticed-in 14d --recover-in 1h")
    known = rates.measure(parts)
    measured = _measured(parts, known)
    proposal = propose(measured, Answers(noticed_in_s, recover_in_s))
    short = proposal.window_s < noticed_in_s
    return Plan(
        noticed_in_s=noticed_in_s,
        recover_in_s=recover_in_s,
        rates=known,
        room_bytes=measured.room_bytes,
        protection_window=duration_text(noticed_in_s if not short else _rounded(proposal.window_s)),
        bookmark_every=duration_text(proposal.interval_s),
        keep_daily=proposal.keep_daily,
        keep_weekly=proposal.keep_weekly,
        keep_monthly=proposal.keep_monthly,
        window_bytes=proposal.window_bytes,
        bookmarks_bytes=proposal.bookmarks_bytes,
        base_bytes=proposal.base_bytes,
        fits=proposal.fits,
        short=short,
        assumptions=_assumptions(known, proposal),
        written=False,
    )


def write(parts: Parts, proposed: Plan) -> Plan:
    """Put a plan into ``vsnapfs.toml``; a server reads it at its next start. Raises: UsageError, StoreError; the file is as it was."""
    parts.require_owner()
    text = settings.read(parts.layout).decode()
    retention: dict[str, str | int] = {
        "protection_window": proposed.protection_window,
        "keep_daily": proposed.keep_daily,
        "keep_weekly": proposed.keep_weekly,
        "keep_monthly": proposed.keep_monthly,
    }
    content = edited(text, retention, proposed.bookmark_every).encode()
    settings.parse(content, str(parts.layout.absolute(SETTINGS)))
    parts.layout.write(SETTINGS, content)
    return msgspec.structs.replace(proposed, written=True)


def _measured(parts: Parts, known: Rates) -> Measured:
    facts = parts.journal.facts()
    disk = os.fstatvfs(parts.layout.fd)
    base_bytes = parts.layout.allocated_bytes(BASE)
    reserve_bytes = parts.settings.journal.reserve_bytes(disk.f_blocks * disk.f_frsize)
    found = window(parts)
    room_bytes = facts.journal_bytes + base_bytes + max(0, disk.f_bavail * disk.f_frsize - reserve_bytes)
    limit_bytes = parts.settings.retention.maximum_size_bytes
    names = [] if found is None else [entry.name for entry in parts.entries()]
    return Measured(
        written_bytes_per_s=known.written_bytes_per_hour / HOUR_S,
        peak_bytes_per_s=known.peak_bytes_per_hour / HOUR_S,
        changed_bytes={after.span_s: after.changed_bytes for after in known.changed},
        data_bytes=sum(volume_at(parts, name, found[1]).data_bytes for name in names) if found else 0,
        base_bytes=base_bytes,
        room_bytes=room_bytes if limit_bytes is None else min(room_bytes, limit_bytes),
    )


def _rounded(window_s: float) -> int:
    """To what people say: days, or hours where it is less than three days; never more."""
    unit = 86400 if window_s >= 3 * 86400 else 3600 if window_s >= 3 * 3600 else 60
    return max(60, int(window_s // unit) * unit)


def _assumptions(known: Rates, proposal: Proposal) -> list[str]:
    longest = max((after.span_s for after in known.changed), default=0)
    return [
        f"volumes are written to as in the {known.hours} hours looked at, since {known.since.time}",
        f"what differs after more than {duration_text(longest)} grows as it did until then",
        f"what was written since a bookmark is written again at {format_size(REPLAY_BYTES_PER_S)} a second",
        f"{round(100 * (HEADROOM - 1))} % of the room stay free",
    ] + ([] if proposal.fits else ["there is not even room for a day of window with the bookmarks behind it"])

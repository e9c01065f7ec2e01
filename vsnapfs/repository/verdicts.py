"""Verdicts on points: keep what a proof has come to, and tell how each profile of ``[verify.NAME]`` stands.

A verdict is in the journal, as a record of its own for each bookmark at the point, so that it outlives the catalog. A point
without a bookmark has nobody to carry one: then it is an event alone.

Source: native/FORMAT.md section 7; docs/verify.md.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from vsnapfs.binding import RecordKind
from vsnapfs.catalog.bodies import BookmarkAdded, VerdictGiven
from vsnapfs.catalog.events import Wanted
from vsnapfs.core.errors import UsageError, VsnapfsError
from vsnapfs.core.model import Bookmark, Verdict
from vsnapfs.core.names import check_name
from vsnapfs.core.state import VerificationState
from vsnapfs.repository import events
from vsnapfs.repository.parts import Parts

VOLUMES_MAX = 64
REASON_LENGTH_MAX = 500
REMARK_LENGTH_MAX = 240
REMARKS_BYTES_MAX = 16384
"""A record holds a body of twice that."""
OF_RUNS = frozenset({"verified", "verify_failed", "verify_missed"})


def checked(given: VerdictGiven) -> VerdictGiven:
    """What the journal keeps of it. Raises: UsageError: names that cannot be, or too many."""
    if given.profile:
        check_name(given.profile, "profile")
    for volume in given.volumes:
        check_name(volume, "volume")
    if len(given.volumes) > VOLUMES_MAX:
        count = len(given.volumes)
        raise UsageError(f"a verdict names {VOLUMES_MAX} volumes at most, not {count}", hint="verify some of them")
    remarks = tuple(_line(remark, REMARK_LENGTH_MAX) for remark in given.remarks[:VOLUMES_MAX])
    while len(msgspec.json.encode(remarks)) > REMARKS_BYTES_MAX:
        remarks = remarks[:-1]
    return msgspec.structs.replace(given, reason=_line(given.reason, REASON_LENGTH_MAX), remarks=remarks)


def _line(text: str, length_max: int) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[:length_max]


def give(parts: Parts, seqno: int, verdict: VerdictGiven) -> list[Bookmark]:
    """Keep it for all bookmarks at a point. Durable when this returns. Returns: those bookmarks.

    Raises: PointGoneError: the point is not in the window, perhaps by now. StoreError, NoSpaceError: it cannot be kept.
    """
    parts.require_owner()
    parts.journal.point_check(seqno)
    with parts.change:
        names = [bookmark.name for bookmark in _at(parts, seqno)]
        for name in names:
            parts.record(RecordKind.BOOKMARK_ADD, BookmarkAdded(name, pending=True, verdict=verdict), a=seqno)
        found = _at(parts, seqno)
    detail = {"seqno": seqno, "profile": verdict.profile, "volumes": verdict.volumes, "proved": verdict.proved}
    subject = names[0] if names else f"@{seqno}"
    if verdict.good:
        events.tell(parts, "verified", subject, **detail, took_s=verdict.took_ms / 1000)
    else:
        events.tell(parts, "verify_failed", subject, **detail, reason=verdict.reason)
    return found


def _at(parts: Parts, seqno: int) -> list[Bookmark]:
    with parts.names:
        return [bookmark for bookmark in parts.index.bookmarks_from(seqno) if bookmark.seqno == seqno]


def states(parts: Parts) -> list[VerificationState]:
    """Of each profile of the settings, by name; as far as bookmarks tell."""
    last = _last(parts)
    return [
        VerificationState(name=name, when=verification.when)
        if name not in last
        else VerificationState(
            name=name,
            when=verification.when,
            last_bookmark=last[name][0].name,
            last_verdict=last[name][1].time,
            last_good=last[name][1].good,
        )
        for name, verification in sorted(parts.settings.verify.items())
    ]


def problems(parts: Parts) -> Iterator[str]:
    """The last verdict of a profile says that a point is not good."""
    for name, (bookmark, verdict) in sorted(_last(parts).items()):
        if not verdict.good:
            yield f"bookmark {bookmark.name} is not good, says verification {name}: {verdict.reason}"


def handled_ns(parts: Parts) -> dict[str, int]:
    """Until when each profile has had its runs, or it was told why not; of those that have begun."""
    found: dict[str, int] = {}
    try:
        told = events.read(parts, Wanted(kinds=OF_RUNS)) if parts.settings.verify else []
    except VsnapfsError:
        told = []  # then the next run is made when it is due
    for event in told:
        name = event.subject if event.kind == "verify_missed" else event.detail.get("profile")
        if isinstance(name, str) and name in parts.settings.verify:
            found[name] = max(found.get(name, 0), event.time_ns)
    return found


def _last(parts: Parts) -> dict[str, tuple[Bookmark, Verdict]]:
    """The newest verdict of each profile of the settings, and the bookmark that it is on."""
    found: dict[str, tuple[Bookmark, Verdict]] = {}
    with parts.names:
        bookmarks = parts.index.bookmarks()
    for bookmark in bookmarks:
        for verdict in bookmark.verdicts:
            known = found.get(verdict.profile)
            if verdict.profile in parts.settings.verify and (known is None or known[1].time < verdict.time):
                found[verdict.profile] = bookmark, verdict
    return found

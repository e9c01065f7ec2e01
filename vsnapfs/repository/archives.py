"""What the policies of ``[archive.NAME]`` come to here: what is due, what stays until it is archived, how each stands.

The catalog of tapes says what is archived. It is read anew each time: other processes write to it.

Source: docs/archive-policy.md; policy.archive_choice.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import closing
from functools import cache

from vsnapfs.core.errors import BusyError, PointGoneError, UsageError, VsnapfsError
from vsnapfs.core.model import Point
from vsnapfs.core.state import ArchivingState
from vsnapfs.core.tapes import ArchivedPoint, ArchiveEntry
from vsnapfs.core.times import parse_iso
from vsnapfs.policy.archive_choice import Choice, Due, Known
from vsnapfs.repository import roots
from vsnapfs.repository.parts import Parts
from vsnapfs.repository.resolve import window
from vsnapfs.repository.tapes import known_tapes

NAMES_MAX = 4


def choices(parts: Parts) -> dict[str, Choice]:
    """Of each policy of the settings, by name. Raises: VsnapfsError: the catalog of tapes cannot be read."""
    return _choices(parts, _known(parts)) if parts.settings.archive else {}


def due(parts: Parts, names: Collection[str], anew: Collection[tuple[str, str]]) -> list[Due]:
    """What is to be archived now for these policies, the oldest point first. anew: policies and bookmarks for which what was broken off
    is of no use. Raises: as ``choices``."""
    now_ns = parts.clock.wall_ns()
    found = [
        choice.archive(bookmark, anew=(name, bookmark.name) in anew)
        for name, choice in choices(parts).items()
        if name in names
        for bookmark in choice.due(now_ns)
    ]
    return sorted(found, key=lambda each: each.seqno)


def copy_of(parts: Parts, due: Due) -> ArchiveEntry | None:
    """The archive by which a bookmark that was due is archived; None: it is not. Raises: as ``choices``."""
    copies = choices(parts)[due.policy].copies
    return next((entry for entry in reversed(copies) if entry.point.seqno == due.seqno), None)


def is_archived(parts: Parts, policy: str, point: Point) -> bool:
    """The medium of a policy has the point, as that wants it. False: also if there is no such policy. Raises: as ``choices``."""
    choice = choices(parts).get(policy)
    return choice is not None and choice.is_archived(point)


def kept(parts: Parts, now_ns: int) -> dict[str, str]:
    """Why each bookmark stays that is to be archived first. now_ns: the journal's. Where the catalog of tapes cannot be read, nothing is
    known to be archived. Raises: BusyError: it cannot be read just now."""
    found: dict[str, str] = {}
    for choice in _choices_for_certain(parts).values():
        for name, why in choice.kept(now_ns).items():
            found[name] = f"{found[name]}, {why}" if name in found else why
    return found


def unarchived(parts: Parts, now_ns: int) -> dict[str, list[str]]:
    """Of each bookmark that is to be archived, and is not: the policies. Nothing where the catalog of tapes cannot be read.
    Raises: BusyError: as ``kept``."""
    found: dict[str, list[str]] = {}
    try:
        each = choices(parts)
    except BusyError:
        raise
    except VsnapfsError:
        return {}
    for name, choice in each.items():
        for bookmark in choice.missing(now_ns):
            found.setdefault(bookmark.name, []).append(name)
    return found


def states(parts: Parts) -> list[ArchivingState]:
    """By name."""
    if not parts.settings.archive:
        return []
    try:
        known = _known(parts)
    except VsnapfsError as error:
        return [
            ArchivingState(
                name=name, when=policy.said, medium=policy.to, waiting=[], unprotected=[], last_error=str(error)
            )
            for name, policy in sorted(parts.settings.archive.items())
        ]
    return [_state(parts, name, choice, known) for name, choice in _choices(parts, known).items()]


def problems(found: Iterable[ArchivingState]) -> Iterator[str]:
    """Whatever becomes of the next try."""
    for state in found:
        if state.unprotected:
            more = len(state.unprotected) - NAMES_MAX
            names = ", ".join(state.unprotected[:NAMES_MAX]) + (f" and {more} more" if more > 0 else "")
            yield f"archive {state.name}: not archived, and not kept for it any more: {names}"


def _state(parts: Parts, name: str, choice: Choice, known: Known) -> ArchivingState:
    policy = parts.settings.archive[name]
    waiting = choice.due(parts.clock.wall_ns())
    last = choice.copies[-1] if choice.copies else None
    tried = [entry for entry in known.broken_off if entry.medium == policy.to and entry.state == "failed"]
    seqnos = {each.seqno for each in waiting}
    failed = next((entry for entry in reversed(tried) if entry.point.seqno in seqnos), None)
    return ArchivingState(
        name=name,
        when=policy.said,
        medium=policy.to,
        waiting=[each.name for each in waiting],
        unprotected=[] if window(parts) is None else [each.name for each in choice.unprotected(roots.now_ns(parts))],
        last_bookmark=None if last is None else _name(last),
        last_archived=None if last is None else last.made,
        last_error=None if failed is None else f"{_name(failed)}: {failed.why}",
    )


def _has_time(entry: ArchiveEntry) -> bool:
    """Tapes that were scanned may say anything."""
    try:
        return parse_iso(entry.point.time) > 0
    except UsageError:
        return False


def _name(entry: ArchiveEntry) -> str:
    return entry.point.bookmark or f"@{entry.point.seqno}"


def _choices_for_certain(parts: Parts) -> dict[str, Choice]:
    """As if nothing was archived where that cannot be known."""
    if not parts.settings.archive:
        return {}
    try:
        return choices(parts)
    except BusyError:
        raise
    except VsnapfsError:
        return _choices(parts, _known_with(parts, [], []))


def _choices(parts: Parts, known: Known) -> dict[str, Choice]:
    return {name: Choice(name, policy, known) for name, policy in sorted(parts.settings.archive.items())}


def _known(parts: Parts) -> Known:
    uuid = str(parts.uuid)
    with closing(known_tapes(parts.layout, uuid)) as tapes, tapes.reading():
        copies = [entry for entry in tapes.standing() if entry.repository == uuid and _has_time(entry)]
        broken_off = [entry for entry in tapes.broken_off() if entry.repository == uuid]
    return _known_with(parts, copies, broken_off)


def _known_with(parts: Parts, copies: list[ArchiveEntry], broken_off: list[ArchiveEntry]) -> Known:
    with parts.names:
        bookmarks = list(parts.index.bookmarks())

    @cache
    def volumes_at(seqno: int) -> frozenset[str]:
        return frozenset(entry.name for entry in parts.entries(seqno))

    last_seqno = parts.journal.facts().committed_seqno

    def opens(point: ArchivedPoint) -> bool:
        if not 0 < point.seqno <= last_seqno:
            return False
        try:
            parts.journal.point_check(point.seqno)
            return parts.point(point.seqno).time == point.time
        except PointGoneError:
            return False

    return Known(bookmarks, copies, broken_off, volumes_at, opens, parts.settings.retention.zone)

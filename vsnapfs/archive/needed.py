"""Which tapes are needed for a point, by each archive of it, and what became of them.

Source: docs/tape.md, section on copies.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from vsnapfs.archive.tapes import looked_into
from vsnapfs.catalog.chains import chain
from vsnapfs.core.errors import NotFoundError, UsageError, VsnapfsError
from vsnapfs.core.model import Bookmark
from vsnapfs.core.names import near
from vsnapfs.core.tapes import ArchiveEntry, NeededTape, NeededTapeState, PointNeeds, TapeEntry, Way
from vsnapfs.core.times import age_s
from vsnapfs.media.medium import TapeSeen
from vsnapfs.policy.media import CommandSettings, DriveSettings
from vsnapfs.repository.tapes import Shelf, shelf

LATEST = "latest"
WAYS = ("complete", "lost")
"""What was broken off never was a way to its point."""


class _Looked(NamedTuple):
    """What media say. why: of one that cannot be looked at."""

    seen: dict[str, TapeSeen]
    """By label."""
    why: str


def tapes_needed(
    repository: Path, wanted: str, bookmarks: Sequence[Bookmark] | None, *, look: bool = False
) -> PointNeeds:
    """By a bookmark, ``@SEQNO``, ``latest`` or the beginning of an archive's uuid.

    Args: bookmarks: those that stand; None: nobody can tell, the journal is lost. look: also into drives and changers.
    Raises: NotFoundError: nothing of it is on tape. UsageError: it names several points.
    """
    with shelf(repository) as found:
        archives = found.tapes.archives()
        ways = [one for one in archives if one.state in WAYS]
        ours = [one for one in ways if one.repository == found.uuid]
        chosen = _chosen(ours, wanted, bookmarks) or _chosen(ways, wanted, None)
        if not chosen:
            known = [one.point.bookmark or f"@{one.point.seqno}" for one in ways]
            raise NotFoundError(f"nothing of {wanted!r} was archived", near=near(wanted, [*known, LATEST]))
        looked: dict[str, _Looked] = {}
        now_ns = time.time_ns()
        point = chosen[0].point
        by_uuid = {entry.uuid: entry for entry in archives}
        return PointNeeds(
            point=point,
            age_s=age_s(point.time, now_ns),
            on_disk=None if bookmarks is None else any(each.seqno == point.seqno for each in bookmarks),
            ways=[_way(found, by_uuid, entry, looked, now_ns, look=look) for entry in chosen],
        )


def _chosen(archives: Sequence[ArchiveEntry], wanted: str, bookmarks: Sequence[Bookmark] | None) -> list[ArchiveEntry]:
    """All of one point, the newest first. A name means the bookmark that stands, as everywhere; else what was archived by it last.

    Raises: UsageError: it is of several points.
    """
    seqnos = {f"@{each.seqno}" for each in bookmarks or () if each.name == wanted}
    names = seqnos or {wanted}
    found = [one for one in archives if names & {f"@{one.point.seqno}", one.point.bookmark}]
    if wanted == LATEST and archives:
        newest = max(archives, key=lambda one: (one.point.time, one.made))
        found = [one for one in archives if one.point.seqno == newest.point.seqno]
    elif not seqnos and found:
        last = max(found, key=lambda one: one.point.time).point.seqno
        found = [one for one in found if one.point.seqno == last]
    found = found or [one for one in archives if wanted and one.uuid.startswith(wanted)]
    if len({(one.repository, one.point.seqno) for one in found}) > 1:
        raise UsageError(f"{wanted!r} is of several points", hint="give the uuid of an archive")
    return found[::-1]


def _way(
    found: Shelf,
    by_uuid: Mapping[str, ArchiveEntry],
    entry: ArchiveEntry,
    looked: dict[str, _Looked],
    now_ns: int,
    *,
    look: bool,
) -> Way:
    try:
        steps = chain(by_uuid, entry)
        lacks = [_lacks(step) for step in steps if step.state != "complete"]
    except VsnapfsError as error:
        steps, lacks = [entry], [error.message]
    tapes = [_needed(found, tape, _look(found, tape, looked, look=look)) for tape in found.tapes.tapes_of(steps)]
    lacks += [f"tape {tape.label}: {tape.why}" for tape in tapes if tape.state in ("missing", "written over")]
    return Way(
        archive=entry.uuid,
        kind=entry.kind,
        made=entry.made,
        age_s=age_s(entry.made, now_ns),
        medium=entry.medium,
        archives=[step.uuid for step in steps],
        tapes=tapes,
        lacks=lacks,
        counts=not lacks and all(tape.state != "retired" for tape in tapes),
    )


def _lacks(step: ArchiveEntry) -> str:
    what = f"archive {step.uuid[:8]} of {step.point.bookmark or f'@{step.point.seqno}'} is {step.state}"
    return f"{what}: {step.why}" if step.why else what


def _look(found: Shelf, tape: TapeEntry, looked: dict[str, _Looked], *, look: bool) -> _Looked | None:
    """None: its medium is not looked at unasked."""
    settings = found.media.get(tape.medium)
    if settings is None:
        return _Looked({}, f"no medium {tape.medium!r} is in the settings")
    if isinstance(settings, CommandSettings) or (isinstance(settings, DriveSettings) and not look):
        return None
    if tape.medium not in looked:
        try:
            seen = {each.label: each for each in looked_into(tape.medium, settings) if each.label is not None}
            looked[tape.medium] = _Looked(seen, f"it is not in {tape.medium}")
        except VsnapfsError as error:
            looked[tape.medium] = _Looked({}, error.message)
    return looked[tape.medium]


def _needed(found: Shelf, tape: TapeEntry, looked: _Looked | None) -> NeededTape:
    settings = found.media.get(tape.medium)
    here = None if looked is None else looked.seen.get(tape.label)
    place = None if here is None else here.place
    state, why = _state(tape, looked, here)
    if isinstance(settings, CommandSettings):
        place = tape.medium if settings.read else None
    return NeededTape(
        label=tape.label,
        uuid=tape.uuid,
        medium=tape.medium,
        state=state,
        protected=tape.protected or (here is not None and here.read_only),
        place=place,
        why=why,
    )


def _state(tape: TapeEntry, looked: _Looked | None, here: TapeSeen | None) -> tuple[NeededTapeState, str]:
    if looked is not None and here is None:
        return "missing", looked.why
    if here is not None and here.uuid is not None and here.uuid != tape.uuid:
        return "written over", f"what has its label now is {here.uuid[:8]}, and not {tape.uuid[:8]}"
    if here is not None and here.blank:
        return "written over", "it is blank"
    if tape.state == "retired":
        return "retired", "nothing on it counts any more"
    return tape.state, ""

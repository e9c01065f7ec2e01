"""Volumes as they were: into a file or device, or back onto the live volumes as one new set of writes.

Only what differs is written. A live volume gets its writes from the journal, like any other write; a bookmark made before makes
them undoable, one made after names the result. A crash in the middle leaves a part of the writes in the history, behind the first
bookmark; doing it again writes what still differs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from vsnapfs.binding import View
from vsnapfs.catalog.bodies import BookmarkAdded
from vsnapfs.catalog.index import VolumeEntry
from vsnapfs.core.errors import VsnapfsError, with_hint
from vsnapfs.core.model import Bookmark
from vsnapfs.repository import bookmarks, gaps, volumes
from vsnapfs.repository.bring import Source, bring, everything
from vsnapfs.repository.file_target import FileTarget
from vsnapfs.repository.live_volume import LiveVolume, require_in_use
from vsnapfs.repository.origins import Held, Origin, changed_since
from vsnapfs.repository.parts import Parts, Report
from vsnapfs.repository.shared import share
from vsnapfs.repository.sources import data_of
from vsnapfs.repository.sparse import Span, from_offset, union
from vsnapfs.repository.tally import Tally


class Into(NamedTuple):
    """Where a volume goes: the file or device open at ``fd``, of its size at least; a file that shall be it, of exactly that."""

    fd: int
    path: str
    """For errors."""
    is_new: bool
    """Nothing was in it before but a part of this restore."""
    from_bytes: int
    """So much of it is done."""
    verify: bool
    settled: Callable[[int], None]
    """Is told of each offset before which all is done for good."""


class Written(NamedTuple):
    """What a restore did."""

    written_bytes: int
    shared_bytes: int
    """Blocks of a new file that are those of the repository."""


class Shareable(NamedTuple):
    """A view whose blocks a file may share."""

    volume: int
    view: View


class Live(NamedTuple):
    """What a restore onto live volumes is called: the bookmarks before and after."""

    what: str
    before: BookmarkAdded
    after: BookmarkAdded


class Brought(NamedTuple):
    """What that did."""

    before: Bookmark
    after: Bookmark
    written_bytes: int


def into_file(parts: Parts, name: str, source: Source, view: Shareable | None, into: Into, report: Report) -> Written:
    """Make a file or device like ``source``. view: what that reads, if it is one. All is on stable storage at the end.

    Raises: NoSpaceError: before the first byte, if it shows then. BusyError: it became shorter. IntegrityError: it does not read back.
    """
    target = FileTarget(parts.store, into.fd, source.size_bytes, into.path)
    shared = 0
    if into.is_new and view is not None:
        shared = share(parts, view.volume, view.view, into.fd, into.from_bytes)
        target.require_room(view.view.stat().data_bytes)
    tally = Tally(parts, f"restore of {name}", 0, source.size_bytes, report, into.settled)
    spans = from_offset(everything(source, target.held()), into.from_bytes)
    written = bring(source, target, spans, tally, verify=into.verify)
    target.settle()
    tally.at(source.size_bytes)
    return Written(written, shared)


def onto_live(parts: Parts, origin: Origin, names: Sequence[str], live: Live, report: Report) -> Brought:
    """Bring live volumes to what ``origin`` has of them, between two bookmarks. One that has another size gets that of then.

    Done again under the same names after a crash, it takes the first bookmark that it made then, and the second if that was all.
    Raises: NotFoundError, UsageError, DegradedError, GapError, NameTakenError: nothing was written. BusyError: the same, if the
    origin is a branch that is open; or somebody wrote to them meanwhile. IntegrityError: the primary does not read back.
    """
    parts.require_owner()
    with parts.working(live.what), origin.still(live.what):
        wanted = [_judged(parts, origin, name) for name in names]
        gaps.refuse_now(parts, live.what)
        before, after = (_known(parts, body) for body in (live.before, live.after))
        if before and after and not _written_since(parts, names, after.seqno):
            return Brought(before, after, 0)
        bookmarks.refuse_taken(parts, live.after.name)
        before = before or bookmarks.add(parts, live.before, 0)
        try:
            written = _write(parts, origin, wanted, live.what, report)
            return Brought(before, bookmarks.add(parts, live.after, 0), written)
        except VsnapfsError as error:
            raise _undoable(error, before, names) from error


def undoing(before: Bookmark, names: Sequence[str]) -> list[str]:
    """The commands that bring back what was before."""
    return [f"vsnapfs restore {before.name} {name} --live" for name in names]


def _undoable(error: VsnapfsError, before: Bookmark, names: Sequence[str]) -> VsnapfsError:
    """A part is written: the error says what to do about that."""
    told = "do it again to complete it; what is written is undone by " + ", ".join(
        f"`{command}`" for command in undoing(before, names)
    )
    return with_hint(error, told if error.hint is None else f"{error.hint}; {told}")


def _write(parts: Parts, origin: Origin, wanted: Sequence[Held], what: str, report: Report) -> int:
    written, done, total = 0, 0, sum(volume.size_bytes for volume in wanted)
    for volume in wanted:
        tally = Tally(parts, what, done, total, report)
        written += _onto(parts, origin, volume, tally)
        done += volume.size_bytes
        tally.at(volume.size_bytes)
    return written


def _written_since(parts: Parts, names: Sequence[str], seqno: int) -> bool:
    parts.journal.commit()
    committed_seqno = parts.journal.facts().committed_seqno
    states = [parts.state_at(parts.entry(name).id, committed_seqno) for name in names]
    return any(state is None or state.last_write_seqno > seqno for state in states)


def _judged(parts: Parts, origin: Origin, name: str) -> Held:
    """What the live volume of that name shall be. Raises what cannot be done."""
    volume = origin.volume(name)
    entry = parts.entry(name)
    require_in_use(parts, entry)
    if entry.size_bytes != volume.size_bytes:
        volumes.check_resize(parts, entry, volume.size_bytes)
    with origin.source(volume):
        return volume


def _onto(parts: Parts, origin: Origin, volume: Held, tally: Tally) -> int:
    with origin.source(volume) as source:
        volumes.resize(parts, volume.name, volume.size_bytes)
        entry = parts.entry(volume.name)
        with LiveVolume(parts, entry) as live:
            spans = _candidates(parts, origin, volume, entry, source, live)
            written = bring(source, live, spans, tally, verify=True)
            live.refuse_others()
            return written


def _candidates(
    parts: Parts, origin: Origin, volume: Held, entry: VolumeEntry, source: Source, live: LiveVolume
) -> Iterator[Span]:
    """Where the live volume can differ from what it shall be: what was written to either since they were one. If they never
    were, everywhere."""
    if volume.id != entry.id:
        return everything(source, data_of(live.head))
    changed = changed_since(parts, entry, origin.seqno, live.seqno)
    return union(changed, origin.own(volume), volume.size_bytes)


def _known(parts: Parts, body: BookmarkAdded) -> Bookmark | None:
    """The bookmark, if a try before this one has made it."""
    with parts.names:
        found = parts.index.bookmark(body.name)
    return found if found is not None and found.note == body.note else None

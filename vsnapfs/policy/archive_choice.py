"""What a policy of archives comes to: which bookmarks are due, since which point each is archived, and which stay until they are.

Pure. It follows from the bookmarks that stand and the archives that count, so it is the same after a restart, and what is on tape is
never put there twice. A bookmark *is archived* if the policy's medium has a copy of its point with all volumes that the policy wants.

Source: docs/archive-policy.md.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import tzinfo
from typing import NamedTuple, cast

from vsnapfs.core.model import Bookmark, Point
from vsnapfs.core.tapes import ArchivedPoint, ArchiveEntry
from vsnapfs.core.times import parse_iso
from vsnapfs.policy.archiving import ArchivePolicy
from vsnapfs.policy.periods import Period, period_of
from vsnapfs.policy.schedule import GRACE_NS


class Known(NamedTuple):
    """What there is."""

    bookmarks: Sequence[Bookmark]
    """By their points."""
    copies: Sequence[ArchiveEntry]
    """Archives of the repository that count with all that they need, in the order in which they were made."""
    broken_off: Sequence[ArchiveEntry]
    """Those that can be gone on with, in the same order."""
    volumes_at: Callable[[int], frozenset[str]]
    """The names of the volumes that stand at a point."""
    opens: Callable[[ArchivedPoint], bool]
    """True: the point can be opened, and is the one that was archived."""
    zone: tzinfo
    """In which periods begin."""


class Due(NamedTuple):
    """An archive that is to be made now."""

    policy: str
    bookmark: str
    seqno: int
    to: str
    volumes: tuple[str, ...]
    """Empty: all."""
    since: str | None
    """The point that it goes on from; None: full."""
    resume: bool
    """Go on with one that was broken off, if there is one."""


class Choice:
    """One policy, and what there is."""

    def __init__(self, name: str, policy: ArchivePolicy, known: Known) -> None:
        self._name = name
        self._policy = policy
        self._known = known
        self._by_seqno = {each.seqno: each for each in reversed(known.bookmarks)}
        """The first name of each point."""
        fitting = {each.seqno for each in known.bookmarks if policy.fits(each.name)}
        self.copies = [entry for entry in known.copies if self._is_of(entry, fitting)]
        """That are of this policy, whoever has made them."""
        self._archived = {(entry.point.seqno, entry.point.time) for entry in self.copies}

    def due(self, now_ns: int) -> list[Bookmark]:
        """Bookmarks that are to be archived, by their points. now_ns: the clock's."""
        timing = self._policy.timing
        return self._missing(now_ns, None if timing is None else timing.last_until(now_ns))

    def missing(self, now_ns: int) -> list[Bookmark]:
        """The same, and those that ``cron`` lets wait."""
        return self._missing(now_ns, None)

    def _missing(self, now_ns: int, as_of_ns: int | None) -> list[Bookmark]:
        chosen = self._chosen(now_ns, as_of_ns, open_too=False)
        return [each for each in chosen if not self.is_archived(each)]

    def archive(self, bookmark: Bookmark, *, anew: bool = False) -> Due:
        """How one is archived now. anew: what was broken off is of no use."""
        volumes = tuple(sorted(self._wanted(bookmark.seqno))) if self._policy.volumes else ()
        seqno = self._since(bookmark, anew=anew)
        named = None if seqno is None else self._named(seqno)
        since = named.name if named is not None else None if seqno is None else f"@{seqno}"
        return Due(self._name, bookmark.name, bookmark.seqno, self._policy.to, volumes, since, not anew)

    def is_archived(self, point: Bookmark | Point) -> bool:
        """By its time too: where an older copy of the repository was put back, a number may have become that of another record."""
        return (point.seqno, point.time) in self._archived

    def kept(self, now_ns: int) -> dict[str, str]:
        """Why each bookmark stays that does so for this. now_ns: the journal's, by which ages are told."""
        if not self._policy.protect_ns:
            return {}
        waiting = [each for each in self._chosen(now_ns, None, open_too=True) if not self.is_archived(each)]
        found = {each.name: f"not yet archived ({self._name})" for each in waiting if not self._is_over(each, now_ns)}
        if len(found) == len(waiting):
            for parent in self._next_parents(waiting):
                found.setdefault(parent.name, f"the next archive goes on from it ({self._name})")
        return found

    def unprotected(self, now_ns: int) -> list[Bookmark]:
        """Those that are missing and not kept for it any more: it has taken too long. now_ns: the journal's."""
        if not self._policy.protect_ns:
            return []
        return [each for each in self.missing(now_ns) if self._is_over(each, now_ns)]

    def _is_over(self, bookmark: Bookmark, now_ns: int) -> bool:
        return now_ns - bookmark.created_ns >= self._policy.protect_ns

    def _chosen(self, now_ns: int, as_of_ns: int | None, *, open_too: bool) -> list[Bookmark]:
        """Those that shall be on the medium. as_of_ns: of those that were made by then; None: of all. open_too: and those of which that is
        not known yet."""
        policy = self._policy
        fitting = [each for each in self._known.bookmarks if policy.fits(each.name) and self._wanted(each.seqno)]
        if as_of_ns is not None:  # when those were made that are later than the clock nobody knows: it was ahead
            fitting = [each for each in fitting if each.created_ns <= as_of_ns or each.created_ns > now_ns + GRACE_NS]
        fitting = list({each.seqno: each for each in reversed(fitting)}.values())[
            ::-1
        ]  # a point once, by its first name
        if policy.which != "all":
            chosen = self._of_periods(fitting, now_ns if as_of_ns is None else as_of_ns, open_too=open_too)
        elif policy.nth > 1:
            chosen = self._every_nth(fitting, open_too=open_too)
        else:
            chosen = fitting
        return [each for each in chosen if policy.within_ns is None or now_ns - each.time_ns <= policy.within_ns]

    def _every_nth(self, fitting: Sequence[Bookmark], *, open_too: bool) -> list[Bookmark]:
        """Counted from the last that is archived; and those before it that were begun, and overtaken because they are damaged."""
        last_ns = max((parse_iso(entry.point.time) for entry in self.copies), default=None)
        if last_ns is None:
            return list(fitting) if open_too else list(fitting[:: self._policy.nth])
        tried = {
            (each.point.seqno, each.point.time) for each in self._known.broken_off if each.medium == self._policy.to
        }
        begun = [each for each in fitting if each.time_ns <= last_ns and (each.seqno, each.time) in tried]
        behind = [each for each in fitting if each.time_ns > last_ns]
        return begun + (behind if open_too else behind[self._policy.nth - 1 :: self._policy.nth])

    def _of_periods(self, fitting: Sequence[Bookmark], as_of_ns: int, *, open_too: bool) -> list[Bookmark]:
        """The first or last of each period, unless that has one that is archived, and no other could take its place."""
        first = self._policy.which == "first"
        done: dict[str, int] = {}
        for entry in self.copies:
            time_ns = parse_iso(entry.point.time)
            name = self._period(time_ns)
            done[name] = (min if first else max)(done.get(name, time_ns), time_ns)
        now = self._period(max([as_of_ns, *(each.time_ns for each in fitting[-1:])]))
        chosen: dict[str, Bookmark] = {}
        for each in fitting:
            name = self._period(each.time_ns)
            if not (first and name in chosen) and (first or open_too or name != now):
                chosen[name] = each
        return [
            each
            for name, each in chosen.items()
            if name not in done or (each.time_ns < done[name] if first else each.time_ns > done[name])
        ]

    def _period(self, time_ns: int) -> str:
        return period_of(cast("Period", self._policy.per), time_ns, self._known.zone)

    def _wanted(self, seqno: int) -> frozenset[str]:
        """Names of the volumes that an archive of the point has. None: there is nothing to archive."""
        standing = self._known.volumes_at(seqno)
        return standing & frozenset(self._policy.volumes) if self._policy.volumes else standing

    def _is_of(self, entry: ArchiveEntry, fitting: Collection[int]) -> bool:
        wanted = self._wanted(entry.point.seqno)
        if entry.medium != self._policy.to or not wanted or not wanted <= set(entry.volumes):
            return False
        name = entry.point.bookmark
        return entry.point.seqno in fitting or (name is not None and self._policy.fits(name))

    def _since(self, bookmark: Bookmark, *, anew: bool) -> int | None:
        """The point that an archive goes on from: that of the one which was broken off, else as ``full`` says."""
        wanted = self._wanted(bookmark.seqno)
        for entry in reversed([] if anew else self._known.broken_off):
            point = entry.point.seqno, entry.point.time
            of_this = entry.medium == self._policy.to and point == (bookmark.seqno, bookmark.time)
            if of_this and set(entry.volumes) == wanted:
                if self._can_go_on(entry):
                    return None if entry.since is None else entry.since.seqno
                break
        there = (e for e in reversed(self.copies) if e.point.seqno <= bookmark.seqno and self._has(e, wanted))
        parent = None if self._policy.full == "always" else next(there, None)
        if parent is None or self._is_full(bookmark, itertools.chain([parent], there)):
            return None
        return parent.point.seqno

    def _can_go_on(self, entry: ArchiveEntry) -> bool:
        """What it holds the changes since is there, on disk and on tape."""
        if entry.parent is not None and all(other.uuid != entry.parent for other in self._known.copies):
            return False
        return entry.since is None or self._known.opens(entry.since)

    def _is_full(self, bookmark: Bookmark, there: Iterable[ArchiveEntry]) -> bool:
        """By the settings. there: what it could go on from, the newest first."""
        full = self._policy.full
        if full == "once":
            return False
        for count, entry in enumerate(there, 1):
            if entry.kind == "full" and isinstance(full, int):
                return count >= full
            if entry.kind == "full":
                period, zone = cast("Period", full), self._known.zone
                last = period_of(period, parse_iso(entry.point.time), zone)
                return last != period_of(period, bookmark.time_ns, zone)
        return True

    def _has(self, entry: ArchiveEntry, wanted: Collection[str]) -> bool:
        """An incremental archive of these volumes can go on from it."""
        standing = self._known.volumes_at(entry.point.seqno)
        return self._known.opens(entry.point) and (standing & set(wanted)) <= set(entry.volumes)

    def _next_parents(self, waiting: Sequence[Bookmark]) -> list[Bookmark]:
        """Bookmarks of the points that the next archives go on from, as far as that is known now: that of the first of these, and that of
        what comes behind all that is there. waiting: by their points."""
        if self._policy.full == "always":
            return []
        named = [(self._named(entry.point.seqno), entry.point.time) for entry in reversed(self.copies)]
        standing = [each for each, time in named if each is not None and each.time == time]
        before = [each for each in standing if waiting and each.seqno <= waiting[0].seqno]
        return standing[:1] + before[:1]

    def _named(self, seqno: int) -> Bookmark | None:
        return self._by_seqno.get(seqno)

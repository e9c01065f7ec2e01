"""What a replay is asked for, and what that means in a repository."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import msgspec

from vsnapfs.binding import Event
from vsnapfs.core.errors import NotFoundError, UsageError
from vsnapfs.core.model import Point
from vsnapfs.core.names import near
from vsnapfs.replay.choice import Choice, Range, Span, parse_range, parse_seqnos, parse_times
from vsnapfs.replay.reach import Reach
from vsnapfs.repository.repository import Repository

NOW = "-0s"


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """As it was typed. ``skip…``: what is left out. ``test``: none: nothing is run."""

    since: str
    until: str | None = None
    into: str
    skip: tuple[str, ...] = ()
    skip_volumes: tuple[str, ...] = ()
    skip_ranges: tuple[str, ...] = ()
    skip_times: tuple[str, ...] = ()
    only_volumes: tuple[str, ...] = ()
    quota_bytes: int | None = None
    check: bool = False
    mount: bool = False
    partition: int | None = None
    test: tuple[str, ...] = ()
    timeout_s: float = 0.0

    @property
    def left_out(self) -> list[str]:
        options = (
            ("--skip", self.skip),
            ("--skip-volume", self.skip_volumes),
            ("--skip-range", self.skip_ranges),
            ("--skip-time", self.skip_times),
            ("--only-volume", self.only_volumes),
        )
        return [f"{option} {value}" for option, values in options for value in values]


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """From where to where, without what, and what else happened to the volumes."""

    since: Point
    until: Point
    choice: Choice
    reach: Reach


def course_of(repository: Repository, wanted: Wanted) -> Course:
    """Raises: UsageError, NotFoundError, PointGoneError, GapError: what makes no sense, or is not there."""
    since = repository.resolve(wanted.since)
    until = repository.resolve(wanted.until or NOW)
    if since.seqno > until.seqno:
        raise UsageError(
            f"@{since.seqno} is later than @{until.seqno}", hint="--from is the older point, --to the newer one"
        )
    stood = repository.volumes(since)
    names = {volume.id: volume.name for volume in repository.volumes(removed=True)}
    events = _events(repository, since.seqno, until.seqno)
    reach = Reach(since.seqno, {volume.id: volume.size_bytes for volume in stood}, names, events)
    ids = {volume.name: volume.id for volume in [*repository.volumes(until), *stood]}
    return Course(since=since, until=until, choice=_choice(wanted, since, until, _finder(ids)), reach=reach)


def _events(repository: Repository, since: int, until: int) -> list[Event]:
    found = []
    for event in repository.journal.events(since):
        if event.seqno > until:
            break
        found.append(event)
    return found


def _finder(ids: dict[str, int]) -> Callable[[str], int]:
    def find(name: str) -> int:
        if name not in ids:
            raise NotFoundError(f"there is no volume {name!r} at either end of the replay", near=near(name, ids))
        return ids[name]

    return find


def _choice(wanted: Wanted, since: Point, until: Point, find: Callable[[str], int]) -> Choice:
    now_ns = time.time_ns()
    seqnos = [parse_seqnos(text) for text in wanted.skip]
    times = [parse_times(text, now_ns) for text in wanted.skip_times]
    _refuse_outside(wanted.skip, "--skip", seqnos, since.seqno + 1, until.seqno)
    _refuse_outside(wanted.skip_times, "--skip-time", times, since.time_ns + 1, until.time_ns)
    ranges: dict[int, list[Range]] = {}
    for text in wanted.skip_ranges:
        name, left = parse_range(text)
        ranges.setdefault(find(name), []).append(left)
    return Choice(
        seqnos=seqnos,
        times=times,
        volumes=[find(name) for name in wanted.skip_volumes],
        only=[find(name) for name in wanted.only_volumes] or None,
        ranges=ranges,
    )


def _refuse_outside(texts: Iterable[str], option: str, spans: Iterable[Span], first: int, last: int) -> None:
    """What lies outside was not meant: nothing of it would be written anyway."""
    for text, span in zip(texts, spans, strict=True):
        if span.last < first or span.first > last:
            raise UsageError(f"{option} {text} is outside of what is replayed", hint="it goes from --from up to --to")

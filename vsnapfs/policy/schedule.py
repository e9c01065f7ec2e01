"""When something is due that a server does by itself, and what is to be done about times that have passed; and
``[schedule.NAME]`` of ``vsnapfs.toml``, whose bookmarks are.

Pure: the time of day is given. A *due* time is what the schedule says; its *start* is a little later where there is a jitter,
and always the same little for the same due time, so that a restart in between makes no second run. All are nanoseconds since 1970 UTC.

``every`` counts from 1970 UTC, whatever the local time does. ``cron`` is a time of the zone's clock. Where that is put forward past a
due time, it is due when the clock has gone forward; where it is put back, it is due the first time. An expression that is due every
minute or hour (``*`` in one of these fields) is so in these hours too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from cronsim import CronSim, CronSimError

from vsnapfs.core.errors import UsageError
from vsnapfs.core.names import check_name
from vsnapfs.core.times import NS_PER_S
from vsnapfs.core.units import parse_duration

LOCAL = "local"
LOCAL_FILE = "/etc/localtime"
EVERY_NS_MIN = NS_PER_S
GRACE_NS = 60 * NS_PER_S
"""A run that begins no later than this is on time."""
COUNTED_MAX = 10_000
"""Missed times of a cron expression are counted up to here."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Timing(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """When something is due: by one of ``every`` and ``cron``; by neither of them never."""

    every: str = ""
    cron: str = ""
    timezone: str = LOCAL
    jitter: str = "0s"
    catch_up: bool = True

    def __post_init__(self) -> None:
        if self.every and self.cron:
            raise ValueError("give either `every` or `cron`, not both")
        if self.every and self.every_ns < EVERY_NS_MIN:
            raise ValueError(f"every: {self.every} is less than a second")
        if self.every and self.jitter_ns >= self.every_ns:
            raise ValueError(f"jitter: {self.jitter} is not less than {self.every}")
        try:
            if self.is_timed:
                self.next_after(0)
        except (CronSimError, StopIteration) as error:
            raise ValueError(f"cron: {self.cron!r} is never due: {error}".removesuffix(": ")) from error

    @property
    def is_timed(self) -> bool:
        """It is due at some time; else only when somebody asks for it."""
        return bool(self.every or self.cron)

    @cached_property
    def every_ns(self) -> int:
        """Raises: ValueError: no duration."""
        return _span("every", self.every)

    @cached_property
    def jitter_ns(self) -> int:
        """Raises: ValueError: no duration."""
        return _span("jitter", self.jitter)

    @cached_property
    def zone(self) -> ZoneInfo:
        """Raises: ValueError: no such zone."""
        return _zone(self.timezone)

    @property
    def said(self) -> str:
        """For people."""
        return f"every {self.every}" if self.every else f"cron {self.cron}"

    def next_after(self, after_ns: int) -> int:
        """The first due time that is later."""
        if self.every:
            return (after_ns // self.every_ns + 1) * self.every_ns
        for due in CronSim(self.cron, self._clock(after_ns)):
            if (due_ns := _ns(due)) > after_ns:
                return due_ns
        raise StopIteration

    def last_until(self, until_ns: int) -> int:
        """The last due time that is not later."""
        if self.every:
            return until_ns // self.every_ns * self.every_ns
        found_ns = self._earlier(until_ns)
        while (due_ns := self.next_after(found_ns)) <= until_ns:
            found_ns = due_ns
        return found_ns

    def start_of(self, due_ns: int, seed: str) -> int:
        """When the run that is due then begins. seed: tells schedules apart that are due at once."""
        if not self.jitter_ns:
            return due_ns
        digest = hashlib.sha256(f"{seed}:{due_ns}".encode()).digest()
        return due_ns + int.from_bytes(digest[:8], "big") % self.jitter_ns

    def _earlier(self, until_ns: int) -> int:
        """A due time that is not later; in an hour that comes a second time perhaps not the last one."""
        for due in CronSim(self.cron, self._clock(until_ns + NS_PER_S), reverse=True):
            if (due_ns := _ns(due)) <= until_ns:
                return due_ns
        raise StopIteration

    def _clock(self, time_ns: int) -> datetime:
        return (_EPOCH + timedelta(seconds=time_ns // NS_PER_S)).astimezone(self.zone)


class Schedule(Timing, frozen=True, forbid_unknown_fields=True, dict=True):
    """One schedule of bookmarks."""

    quiesce: str = ""
    bookmark: str = "{schedule}-{time}"
    app: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        if not self.is_timed:
            raise ValueError("a schedule needs either `every` or `cron`")
        super().__post_init__()
        if "{time}" not in self.bookmark:
            raise ValueError(
                f"bookmark: {self.bookmark!r} has no {{time}}, so each would have the name of the one before"
            )

    def name_at(self, name: str, time_ns: int) -> str:
        """What a bookmark is called that is made then by the schedule of that name."""
        moment = _EPOCH + timedelta(seconds=time_ns // NS_PER_S)
        return self.bookmark.replace("{schedule}", name).replace("{time}", f"{moment:%Y%m%dT%H%M%SZ}")


class Missed(NamedTuple):
    """Due times at which nothing was run. ``counted``: there are that many, and not more."""

    times: int
    first_ns: int
    last_ns: int
    counted: bool = True


class Step(NamedTuple):
    """What to do now: run (for the due time ``run_ns``), tell of ``missed``, wait. ``handled_ns``: all due times up to it are done with."""

    run_ns: int | None
    missed: Missed | None
    handled_ns: int
    wait_ns: int


def step(schedule: Timing, seed: str, handled_ns: int, now_ns: int) -> Step:
    """Of several times that have passed one run is made at most: on time if the last one is, else if missed ones are made up for."""
    due_ns = schedule.next_after(handled_ns)
    start_ns = schedule.start_of(due_ns, seed)
    if start_ns > now_ns:
        return Step(None, None, handled_ns, start_ns - now_ns)
    last_ns = _last_begun(schedule, seed, due_ns, now_ns)
    if now_ns - schedule.start_of(last_ns, seed) <= GRACE_NS:
        missed = None if last_ns == due_ns else between(schedule, due_ns, schedule.last_until(last_ns - NS_PER_S))
        return Step(last_ns, missed, last_ns, 0)
    return Step(last_ns if schedule.catch_up else None, between(schedule, due_ns, last_ns), last_ns, 0)


def overlapped(schedule: Timing, seed: str, handled_ns: int, now_ns: int) -> Missed | None:
    """Those that should have begun while a run was going on that has ended now."""
    due_ns = schedule.next_after(handled_ns)
    if schedule.start_of(due_ns, seed) > now_ns:
        return None
    return between(schedule, due_ns, _last_begun(schedule, seed, due_ns, now_ns))


def between(schedule: Timing, first_ns: int, last_ns: int) -> Missed:
    """All due times from one to another, both of them due times."""
    if schedule.every:
        return Missed((last_ns - first_ns) // schedule.every_ns + 1, first_ns, last_ns)
    count, due_ns = 1, first_ns
    while due_ns < last_ns and count < COUNTED_MAX:
        due_ns = schedule.next_after(due_ns)
        count += 1
    return Missed(count, first_ns, last_ns, due_ns >= last_ns)


def _last_begun(schedule: Timing, seed: str, due_ns: int, now_ns: int) -> int:
    """The last due time from ``due_ns`` on whose run should have begun; that of ``due_ns`` should have."""
    last_ns = schedule.last_until(now_ns)
    while last_ns > due_ns and schedule.start_of(last_ns, seed) > now_ns:
        last_ns = schedule.last_until(last_ns - NS_PER_S)
    return max(last_ns, due_ns)


def check_schedules(schedules: Mapping[str, Schedule], profiles: Iterable[str]) -> None:
    """What can be said only of all of the settings. Raises: ValueError."""
    known = frozenset(profiles)
    for name, schedule in schedules.items():
        try:
            check_name(name, "schedule")
            check_name(schedule.name_at(name, 0), "bookmark")
        except UsageError as error:
            raise ValueError(f"schedule: {name}: {error}") from error
        if schedule.quiesce and schedule.quiesce not in known:
            raise ValueError(f"schedule: {name}: there is no profile [quiesce.{schedule.quiesce}]")


def _span(key: str, text: str) -> int:
    try:
        return parse_duration(text)
    except UsageError as error:
        raise ValueError(f"{key}: {error}") from error


@lru_cache
def _zone(name: str) -> ZoneInfo:
    """The tables of zones are files of the system; they are read once."""
    try:
        if name != LOCAL:
            return ZoneInfo(name)
        with open(LOCAL_FILE, "rb") as table:
            return ZoneInfo.from_file(table, LOCAL)
    except FileNotFoundError:
        return ZoneInfo("UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"timezone: {name!r} is not known; write one such as Europe/Berlin") from error


def _ns(moment: datetime) -> int:
    return int((moment - _EPOCH) // timedelta(seconds=1)) * NS_PER_S

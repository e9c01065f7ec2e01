"""How a hunt begins, goes on from its log, and is told again."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from vsnapfs.attach.attaching import require_root
from vsnapfs.core.errors import NotFoundError, UsageError
from vsnapfs.core.hunt import Hunt, OnTimeout
from vsnapfs.core.model import Point
from vsnapfs.core.times import iso
from vsnapfs.daemon.again import call_again
from vsnapfs.daemon.client import Client
from vsnapfs.daemon.requests import GetStatus
from vsnapfs.hunt.hunting import Hunting, Say
from vsnapfs.hunt.log import FORMAT, Again, Begin, Log, Past, read
from vsnapfs.hunt.outcome import outcome
from vsnapfs.hunt.served import ServedGround, label
from vsnapfs.hunt.signals import run_until_signal
from vsnapfs.repository.bookmarks import NOTE_LENGTH_MAX, check_text
from vsnapfs.repository.repository import Repository

JOBS_MAX = 16


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What to hunt for, as it was asked. ``volumes``: none: all that stand at both ends."""

    good: str
    bad: str
    test: tuple[str, ...]
    volumes: tuple[str, ...] = ()
    mount: bool = False
    partition: int | None = None
    read_only: bool = False
    quota_bytes: int | None = None
    timeout_s: float
    on_timeout: OnTimeout = "abort"
    jobs: int = 1
    bookmarks_only: bool = False
    to_write: bool = False
    trust: bool = False


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """What is another than at the beginning when a hunt goes on; None: it is not."""

    test: tuple[str, ...] | None = None
    timeout_s: float | None = None
    on_timeout: OnTimeout | None = None
    jobs: int | None = None


def hunt(client: Client, wanted: Wanted, log_path: Path | None, say: Say) -> Hunt:
    """Begin one. log_path: None: a new file in the current directory.

    Raises: UsageError, NotFoundError, PointGoneError: before anything was made. KeyboardInterrupt: a signal asked for the end, and
    nothing is left. Others: as Hunting.run.
    """
    mountpoint = _mountpoint(client)
    with client.reading() as repository:
        begin = _begin(repository, wanted, secrets.token_hex(4))
        path = (log_path or Path(f"vsnapfs-hunt-{begin.id}.log")).absolute()
        check_text("path of the log", label(begin.id, path), NOTE_LENGTH_MAX)
        log = Log.create(path, begin)
        say(f"hunt {begin.id}: {_said(begin.good)} to {_said(begin.bad)}, {', '.join(begin.volumes)}; log {path}")
        return _run(Past([begin], 0), log, repository, mountpoint, say)


def resume(client: Client, path: Path, changed: Changed, say: Say) -> Hunt:
    """Go on with one; one that has ended is told again. Raises: as ``hunt``; BusyError: it is at work."""
    path = path.absolute()
    log, past = Log.resume(path)
    try:
        known = outcome(past, str(path))
        if known.state != "unfinished" and not past.left:
            return known
        mountpoint = _mountpoint(client)
        with client.reading() as repository:
            if repository.uuid != past.begin.uuid:
                raise UsageError(f"{path} is the log of a hunt in another repository, {past.begin.repository}")
            again = _again(past.begin, changed)
            _check(msgspec.structs.replace(past.begin, jobs=again.jobs, timeout_s=again.timeout_s))
            log.add(again)
            past.entries.append(again)
            say(f"hunt {past.begin.id} goes on after {len(past.told)} probes")
            return _run(past, log, repository, mountpoint, say)
    finally:
        log.close()


def replay(path: Path) -> Hunt:
    """What a log tells, without doing anything. Raises: NotFoundError, IntegrityError, FormatUnknownError."""
    return outcome(read(path.absolute()), str(path.absolute()))


def _mountpoint(client: Client) -> Path:
    mountpoint = call_again(client, GetStatus()).mountpoint
    if mountpoint is None:
        raise NotFoundError("a hunt needs the mount of a server, and none runs", hint="start `vsnapfs serve MOUNT`")
    return Path(mountpoint)


def _begin(repository: Repository, wanted: Wanted, number: str) -> Begin:
    """Raises: UsageError, NotFoundError, PointGoneError."""
    good, bad = repository.resolve(wanted.good), repository.resolve(wanted.bad)
    if good.seqno >= bad.seqno:
        raise UsageError(
            f"the good point, {_said(good)}, is not older than the bad one, {_said(bad)}",
            hint="a hunt looks for where good became bad; exchange them and turn the test round to look for the opposite",
        )
    volumes = _volumes(repository, wanted.volumes, good, bad)
    states = [repository.state(volumes.values(), point) for point in (good, bad)]
    if states[0] == states[1]:
        raise UsageError(f"nothing was written to {', '.join(volumes)} between {_said(good)} and {_said(bad)}")
    begin = Begin(
        format=FORMAT,
        id=number,
        time=iso(time.time_ns()),
        repository=str(repository.path),
        uuid=repository.uuid,
        good=good,
        bad=bad,
        good_state=states[0],
        bad_state=states[1],
        volumes=volumes,
        test=wanted.test,
        mount=wanted.mount,
        partition=wanted.partition,
        read_only=wanted.read_only,
        quota_bytes=wanted.quota_bytes,
        timeout_s=wanted.timeout_s,
        on_timeout=wanted.on_timeout,
        jobs=wanted.jobs,
        bookmarks_only=wanted.bookmarks_only,
        to_write=wanted.to_write,
        trust=wanted.trust,
        safety_bookmark=f"before-hunt-{number}",
    )
    _check(begin)
    return begin


def _check(begin: Begin) -> None:
    """Raises: UsageError: options that cannot be meant. PermissionDeniedError: mounting is for root."""
    if begin.bookmarks_only and begin.to_write:
        raise UsageError("--bookmarks-only ends before --to-write begins", hint="give one of them")
    if begin.partition is not None and not begin.mount:
        raise UsageError("--partition says what --mount mounts", hint="give --mount too, or leave it out")
    if begin.quota_bytes is not None and begin.read_only:
        raise UsageError("--quota is of branches, and with --read-only there are none", hint="leave out one of them")
    if not 1 <= begin.jobs <= JOBS_MAX:
        raise UsageError(f"{begin.jobs} jobs are not possible", hint=f"1 to {JOBS_MAX} are")
    if begin.timeout_s <= 0:
        raise UsageError("a test cannot end in no time", hint="give --timeout a longer one")
    if begin.mount:
        require_root()


def _volumes(repository: Repository, names: Sequence[str], good: Point, bad: Point) -> dict[str, int]:
    """Id by name, of those that stand at both ends."""
    at_good = {volume.name: volume.id for volume in repository.volumes(good)}
    at_bad = {volume.name: volume.id for volume in repository.volumes(bad)}
    if not names:
        both = {name: number for name, number in at_bad.items() if at_good.get(name) == number}
        if not both:
            raise NotFoundError(f"no volume stands at {_said(good)} and at {_said(bad)}")
        return both
    for name in names:
        for point in (good, bad):
            repository.volume(name, point)  # raises, and names those that look like it
        if at_good[name] != at_bad[name]:
            raise UsageError(f"{name} at {_said(good)} is another volume than at {_said(bad)}", volume=name)
    return {name: at_bad[name] for name in names}


def _again(begin: Begin, changed: Changed) -> Again:
    return Again(
        time=iso(time.time_ns()),
        test=changed.test or begin.test,
        timeout_s=begin.timeout_s if changed.timeout_s is None else changed.timeout_s,
        on_timeout=changed.on_timeout or begin.on_timeout,
        jobs=begin.jobs if changed.jobs is None else changed.jobs,
    )


def _said(point: Point) -> str:
    return f"{point.bookmark} (@{point.seqno})" if point.bookmark else f"@{point.seqno}"


def _run(past: Past, log: Log, repository: Repository, mountpoint: Path, say: Say) -> Hunt:
    try:
        ground = ServedGround(past.begin, repository, mountpoint, log.path)
        directory = log.path.with_name(log.path.name + ".d")
        hunting = Hunting(past, log, ground, directory, say, time.time_ns)
        try:
            return run_until_signal(hunting.run)
        except BaseException:
            say(f"`vsnapfs hunt --resume {log.path}` goes on")
            raise
    finally:
        log.close()

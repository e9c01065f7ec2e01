"""The log of a hunt: JSON lines, each on stable storage before the next step is taken.

Before anything is made for a probe, a line says what will be made; after the test, a line has the verdict; when all that was made
is removed again, a line says that. So whatever is killed at whatever moment, the log tells which verdicts there are and what may
be left. A last line without an end is what a kill left of it, and is cut off.

The process that hunts holds a lock on the log, which ends with it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeAlias

import msgspec

from vsnapfs.core.documents import from_json
from vsnapfs.core.errors import BusyError, FormatUnknownError, IntegrityError, NameTakenError, UsageError, from_os_error
from vsnapfs.core.hunt import Hunt, HuntProbe, OnTimeout, Verdict
from vsnapfs.core.model import Point

FORMAT = 1
LOG_BYTES_MAX = 1 << 28


class Begin(msgspec.Struct, tag="begin", frozen=True, kw_only=True):
    """What is hunted for. ``volumes``: id by name, at both ends. ``good_state``, ``bad_state``: search.py says what a state is."""

    format: int
    id: str
    time: str
    repository: str
    uuid: str
    good: Point
    bad: Point
    good_state: int
    bad_state: int
    volumes: dict[str, int]
    test: tuple[str, ...]
    mount: bool
    read_only: bool
    timeout_s: float
    on_timeout: OnTimeout
    jobs: int
    partition: int | None
    quota_bytes: int | None
    bookmarks_only: bool
    to_write: bool
    trust: bool
    safety_bookmark: str


class Again(msgspec.Struct, tag="again", frozen=True, kw_only=True):
    """The hunt goes on, with these in place of what it began with."""

    time: str
    test: tuple[str, ...]
    timeout_s: float
    on_timeout: OnTimeout
    jobs: int


class Safe(msgspec.Struct, tag="safe", frozen=True, kw_only=True):
    """The safety bookmark is there."""

    point: Point


class Named(msgspec.Struct, tag="named", frozen=True, kw_only=True):
    """The bookmarks between the ends, oldest first; ``states`` are theirs. Enough to tell a result of without the repository."""

    bookmarks: list[Point]
    states: list[int]


class Making(msgspec.Struct, tag="making", frozen=True, kw_only=True):
    """A probe begins. ``branch``: will be made; "": none. ``directory``: where volumes will be mounted; "": nowhere."""

    number: int
    state: int
    point: Point
    branch: str
    directory: str


class Told(msgspec.Struct, tag="told", frozen=True, kw_only=True):
    """The verdict of a probe."""

    state: int
    verdict: Verdict
    probe: HuntProbe


class Cleared(msgspec.Struct, tag="cleared", frozen=True, kw_only=True):
    """All that was made for a probe is gone."""

    number: int


class End(msgspec.Struct, tag="end", frozen=True, kw_only=True):
    """What was found, or why the hunt did not come to its end."""

    time: str
    hunt: Hunt


Entry: TypeAlias = Begin | Again | Safe | Named | Making | Told | Cleared | End


class Past(NamedTuple):
    """What a log tells. ``whole_bytes``: so far it has whole lines."""

    entries: list[Entry]
    whole_bytes: int

    @property
    def begin(self) -> Begin:
        """As it was last changed."""
        first = self.entries[0]
        assert isinstance(first, Begin)  # as _check has seen
        again = [entry for entry in self.entries if isinstance(entry, Again)]
        if not again:
            return first
        last = again[-1]
        return msgspec.structs.replace(
            first, test=last.test, timeout_s=last.timeout_s, on_timeout=last.on_timeout, jobs=last.jobs
        )

    @property
    def told(self) -> list[Told]:
        """In the order in which they were told."""
        return [entry for entry in self.entries if isinstance(entry, Told)]

    @property
    def verdicts(self) -> dict[int, Verdict]:
        """By state."""
        return {told.state: told.verdict for told in self.told}

    @property
    def named(self) -> Named:
        """Of the last time that they were looked up."""
        found = [entry for entry in self.entries if isinstance(entry, Named)]
        return found[-1] if found else Named(bookmarks=[], states=[])

    @property
    def is_safe(self) -> bool:
        return any(isinstance(entry, Safe) for entry in self.entries)

    @property
    def last_number(self) -> int:
        """Of the probes that were begun; 0: none was."""
        return max((entry.number for entry in self.entries if isinstance(entry, Making)), default=0)

    @property
    def left(self) -> list[Making]:
        """Probes of which something may be left."""
        cleared = {entry.number for entry in self.entries if isinstance(entry, Cleared)}
        return [entry for entry in self.entries if isinstance(entry, Making) and entry.number not in cleared]


class Log:
    """A log that is written to. Threads: one. Resource handling: ``close`` lets go of the lock. ``whole_bytes``: of lines so far."""

    def __init__(self, path: Path, fd: int, whole_bytes: int = 0) -> None:
        self.path = path
        self._fd = fd
        self._whole_bytes = whole_bytes

    @classmethod
    def create(cls, path: Path, begin: Begin) -> Log:
        """Raises: NameTakenError: there is such a file. Others, as ``add``: then there is none."""
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except FileExistsError as error:
            hint = "--resume goes on with it; or choose another name"
            raise NameTakenError(f"the log {path} is there already", hint=hint) from error
        except OSError as error:
            raise from_os_error(error, f"write {path}") from error
        log = cls(path, fd)
        try:
            _lock(fd, path)
            log.add(begin)
            _sync_directory(path.parent)
            return log
        except BaseException:
            path.unlink(missing_ok=True)
            log.close()
            raise

    @classmethod
    def resume(cls, path: Path) -> tuple[Log, Past]:
        """Go on with it. Raises: NotFoundError; BusyError: its hunt is at work; IntegrityError, FormatUnknownError: no such log."""
        try:
            fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except OSError as error:
            raise from_os_error(error, f"open the log {path}") from error
        try:
            _lock(fd, path)
            past = parse(_content(fd, path), path)
            os.ftruncate(fd, past.whole_bytes)
        except BaseException:
            os.close(fd)
            raise
        return cls(path, fd, past.whole_bytes), past

    def add(self, entry: Entry) -> None:
        """Append it, and return when it is on stable storage; if that fails, no half of it is there for the next to be joined to.

        Raises: UsageError: a word or a path in it is not UTF-8. NoSpaceError, StoreError.
        """
        try:
            line = msgspec.json.encode(entry) + b"\n"
        except UnicodeEncodeError as error:
            raise UsageError(f"{error.object!r} is not text", hint="the log of a hunt takes UTF-8") from error
        try:
            written = 0
            while written < len(line):
                written += os.write(self._fd, line[written:])
            os.fsync(self._fd)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._fd, self._whole_bytes)
            raise from_os_error(error, f"write {self.path}") from error
        self._whole_bytes += len(line)

    def close(self) -> None:
        """Twice is allowed."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def read(path: Path) -> Past:
    """What a log tells, also while its hunt is at work. Raises: NotFoundError, IntegrityError, FormatUnknownError."""
    try:
        with path.open("rb") as file:
            return parse(_content(file.fileno(), path), path)
    except OSError as error:
        raise from_os_error(error, f"open the log {path}") from error


def parse(content: bytes, path: Path) -> Past:
    """The entries of whole lines. Raises: IntegrityError: a line is none of ours. FormatUnknownError: not a log, or a newer one."""
    whole = content.rfind(b"\n") + 1
    entries: list[Entry] = []
    for number, line in enumerate(content[:whole].splitlines(), 1):
        try:
            entries.append(from_json(line, Entry))  # type: ignore[arg-type]
        except msgspec.DecodeError as error:
            if number == 1:
                raise FormatUnknownError(f"{path} is not the log of a hunt") from error
            raise IntegrityError(f"line {number} of {path} makes no sense: {error}") from error
    _check(entries, path)
    return Past(entries, whole)


def _check(entries: Sequence[Entry], path: Path) -> None:
    if not entries or not isinstance(entries[0], Begin):
        raise FormatUnknownError(f"{path} is not the log of a hunt")
    if entries[0].format > FORMAT:
        raise FormatUnknownError(f"{path} was written by a newer version", hint=f"this one knows format {FORMAT}")
    if any(isinstance(entry, Begin) for entry in entries[1:]):
        raise IntegrityError(f"{path} has a second beginning")
    good, bad = entries[0].good_state, entries[0].bad_state
    for entry in entries:
        if isinstance(entry, Named) and len(entry.bookmarks) != len(entry.states):
            raise IntegrityError(f"{path} has bookmarks without states")
        if isinstance(entry, Told) and not good <= entry.state <= bad:
            raise IntegrityError(f"{path} has a verdict of a state that was not searched")
    if good >= bad:
        raise IntegrityError(f"{path} begins with ends in the wrong order")


def _content(fd: int, path: Path) -> bytes:
    try:
        content = os.pread(fd, LOG_BYTES_MAX, 0)
    except OSError as error:
        raise from_os_error(error, f"read {path}") from error
    if len(content) == LOG_BYTES_MAX:
        raise FormatUnknownError(f"{path} is larger than a log can be")
    return content


def _lock(fd: int, path: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BusyError(f"the hunt of {path} is at work", hint="wait until it has ended, or end it") from error


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

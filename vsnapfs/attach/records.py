"""What is attached, in files of /run: one for each directory, gone after a restart of the machine as the mounts are.

A record says what will be done before it is done, so whoever is killed leaves something to clean up by. A lock beside each,
of flock(2), says that somebody is at work; mount(8) inherits it, so that what a killed process has started is waited for.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from vsnapfs.attach.model import Record
from vsnapfs.core.documents import from_json
from vsnapfs.core.errors import BusyError, from_os_error

VARIABLE = "VSNAPFS_RUN"
PLACE = "/run/vsnapfs"
PATIENCE_S = 5.0
"""Whoever cleans up looks at what is others' too, for a moment."""
TRY_EVERY_S = 0.02


def place() -> Path:
    """The directory of records, made if need be. Raises: VsnapfsError: it cannot be."""
    path = Path(os.environ.get(VARIABLE) or PLACE) / "attached"
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(exist_ok=True)
            path.parent.chmod(0o755)  # sockets of servers are in there too, also for others
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise from_os_error(error, f"make {path}") from error
    return path


class Lock:
    """The right to change what is on a directory. ``fd`` holds it, also in a process that inherits it."""

    def __init__(self, directory: str, path: Path, fd: int) -> None:
        self.directory = directory
        self.fd = fd
        self._path = path

    def read(self) -> Record | None:
        """None: nothing is attached there."""
        return _read(self._path)

    def write(self, record: Record) -> Record:
        """All of it or nothing. Nothing is synced: it need not survive the machine."""
        beside = self._path.with_suffix(".new")
        try:
            beside.write_bytes(msgspec.json.encode(record))
            beside.rename(self._path)
        except OSError as error:
            raise from_os_error(error, f"write {self._path}") from error
        return record

    def forget(self) -> None:
        self._path.unlink(missing_ok=True)


@contextmanager
def locked(directory: str, *, wait_s: float = PATIENCE_S) -> Iterator[Lock]:
    """Raises: BusyError: somebody else is at work on it, for longer than ``wait_s``."""
    path = _path_of(directory)
    name = path.with_suffix(".lock")
    end = time.monotonic() + wait_s
    while (fd := _taken(name)) is None and time.monotonic() < end:
        time.sleep(TRY_EVERY_S)
    if fd is None:
        record = _read(path)
        who = "somebody" if record is None else f"process {record.pid}"
        raise BusyError(f"{who} is just attaching or detaching {directory}", hint="try again")
    lock = Lock(directory, path, fd)
    try:
        yield lock
    finally:
        _let_go(path, fd)


def _let_go(path: Path, fd: int) -> None:
    """Of the lock beside a record; without a record there is nothing to lock."""
    if not path.exists():
        path.with_suffix(".new").unlink(missing_ok=True)
        path.with_suffix(".lock").unlink(missing_ok=True)
    os.close(fd)


def _taken(name: Path) -> int | None:
    """The lock; None: another has it. The file may have been deleted by whoever had it before, then it is made anew."""
    while True:
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        if _is(name, fd):
            return fd
        os.close(fd)


def _is(name: Path, fd: int) -> bool:
    try:
        return os.path.samestat(name.stat(), os.fstat(fd))
    except FileNotFoundError:
        return False


def sweep() -> None:
    """Delete locks of directories without a record, which whoever was killed has left; not those that somebody holds."""
    for name in place().glob("*.lock"):
        path = name.with_suffix(".json")
        if path.exists():
            continue
        fd = _taken(name)
        if fd is not None:
            _let_go(path, fd)


def all_records() -> list[Record]:
    """Of every directory, by its name. What is not a record of this version is passed over."""
    found = [record for path in place().glob("*.json") if (record := _read(path)) is not None]
    return sorted(found, key=lambda record: record.attached.directory)


def _path_of(directory: str) -> Path:
    return place() / f"{hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]}.json"


def _read(path: Path) -> Record | None:
    try:
        return from_json(path.read_bytes(), Record)
    except (OSError, msgspec.DecodeError):
        return None

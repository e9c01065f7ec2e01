"""Write a volume, as it was at a point, into a file that is not there yet.

The bytes go from a reader in this process straight to the target, never through a server. A file is written as
``FILE.partial`` and gets its name when it is complete and on stable storage, so that nothing that looks whole is not.
Whatever fails leaves the partial file: it is the user's. Nothing that exists is replaced without ``force``; no symlink
is followed even then.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from vsnapfs.core.errors import NameTakenError, NoSpaceError, UsageError, from_os_error
from vsnapfs.core.model import Point
from vsnapfs.daemon.client import Client, Report
from vsnapfs.daemon.targets import PARTIAL, failures_named, look, publish

STDOUT_FD = 1
BLKGETSIZE64 = 0x80081272


class Export(msgspec.Struct, frozen=True, kw_only=True):
    """What to write: ``volume`` at ``point``; with ``since`` only what changed from there."""

    point: str
    volume: str
    since: str | None = None


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """What was written. ``size_bytes``: of the volume at the point."""

    volume: str
    point: Point
    since: Point | None
    to: str
    size_bytes: int


def export(client: Client, wanted: Export, to: Path | None, report: Report, *, force: bool = False) -> Exported:
    """Write to the file or device ``to``, None: standard output.

    Raises: NotFoundError, PointGoneError, UsageError, NameTakenError, PermissionDeniedError: before the first byte.
    NoSpaceError, StoreError, CorruptExtentError: the partial file stays, and the error names it.
    """
    with client.reading() as repository:
        point = repository.resolve(wanted.point)
        since = repository.resolve(wanted.since) if wanted.since is not None else None
        size_bytes = repository.volume_at(wanted.volume, point).size_bytes
        with _target(to, size_bytes, force=force) as fd:
            if since is None:
                repository.export(point, wanted.volume, fd, report)
            else:
                repository.export_changes(since, point, wanted.volume, fd, report)
    name = str(to) if to is not None else "-"
    return Exported(volume=wanted.volume, point=point, since=since, to=name, size_bytes=size_bytes)


@contextmanager
def _target(to: Path | None, size_bytes: int, *, force: bool) -> Iterator[int]:
    """A descriptor to write to, finished at the end of the block."""
    if to is None:
        if os.isatty(STDOUT_FD):
            raise UsageError("standard output is a terminal", hint="give --to FILE or a pipe")
        with failures_named("standard output", None):
            yield STDOUT_FD
        return
    found = look(to, force)
    if found is None or stat.S_ISREG(found.st_mode):
        with _new_file(to, force=force) as fd:
            yield fd
    else:
        with _device(to, found, size_bytes) as fd:
            yield fd


@contextmanager
def _new_file(to: Path, *, force: bool) -> Iterator[int]:
    """All that happens is in the directory that is found at the beginning, whatever is put under its path meanwhile."""
    partial = to.with_name(to.name + PARTIAL)
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | (os.O_TRUNC if force else os.O_EXCL)
    with ExitStack() as stack:
        try:
            directory_fd = os.open(to.parent, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, directory_fd)
            fd = os.open(partial.name, flags, 0o600, dir_fd=directory_fd)
            stack.callback(os.close, fd)
        except FileExistsError as error:
            raise NameTakenError(f"{partial} is there, from an earlier try", hint="remove it, or --force") from error
        except OSError as error:
            raise from_os_error(error, f"write {partial}") from error
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise NameTakenError(f"{partial} is there, and is no file", hint="remove it")
        with failures_named(str(partial), partial):
            yield fd
            os.fsync(fd)
            publish(directory_fd, partial.name, to, force=force)


@contextmanager
def _device(to: Path, found: os.stat_result, size_bytes: int) -> Iterator[int]:
    """A device or pipe, written in place. O_EXCL makes the kernel refuse a block device that is mounted or held."""
    is_block = stat.S_ISBLK(found.st_mode)
    try:
        fd = os.open(to, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_EXCL if is_block else 0))
    except OSError as error:
        raise from_os_error(error, f"write {to}") from error
    try:
        if is_block and device_bytes(fd) < size_bytes:
            raise NoSpaceError(f"{to} has {device_bytes(fd)} bytes, the volume {size_bytes}")
        with failures_named(str(to), None):
            yield fd
            if is_block:
                os.fsync(fd)
    finally:
        os.close(fd)


def device_bytes(fd: int) -> int:
    (size_bytes,) = struct.unpack("Q", fcntl.ioctl(fd, BLKGETSIZE64, bytes(8)))
    return int(size_bytes)

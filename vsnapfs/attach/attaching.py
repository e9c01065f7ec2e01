"""Attach and detach: the steps, each written down before it is done."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from msgspec.structs import replace

from vsnapfs.attach.content import Content, look
from vsnapfs.attach.filesystems import Way, checked_options, way_of
from vsnapfs.attach.loop import loop
from vsnapfs.attach.model import Attached, Record, Step
from vsnapfs.attach.mounting import mount, unmount
from vsnapfs.attach.records import Lock, locked
from vsnapfs.attach.sharing import check_alone
from vsnapfs.attach.stale import clean, clean_all, clean_one, is_ours, own_namespace, remove_directory
from vsnapfs.core.errors import (
    BusyError,
    NameTakenError,
    NotFoundError,
    PermissionDeniedError,
    StoreError,
    UsageError,
    from_os_error,
)
from vsnapfs.core.times import iso
from vsnapfs.mounts.table import VSNAPFS, entry_around, entry_of


@contextmanager
def attached(
    source_file: Path, directory: str | Path, *, writable: bool, partition: int | None = None, options: str = ""
) -> Iterator[Attached]:
    """A volume's filesystem on a directory for the length of a block; whoever still uses it then keeps it until they end.

    Raises: what ``attach`` raises. BusyError: who used it at the end; it is gone from the directory all the same.
    """
    made = attach(source_file, directory, writable=writable, partition=partition, options=options)
    try:
        yield made
    finally:
        try:
            detach(directory)
        except BusyError:
            detach(directory, lazy=True)
            raise


def attach(
    source_file: Path,
    directory: str | Path,
    *,
    writable: bool = False,
    partition: int | None = None,
    options: str = "",
    what: str = "",
) -> Attached:
    """Mount the filesystem of a volume's file on a directory, which is made if it is not there.

    Threads and processes: any, at once on several directories. Killed at any moment it leaves what ``stale.clean_all`` takes away.

    Args: source_file: as a tree shows it, or any image. writable: False: nothing is written to it, whatever is in it. partition:
    its number. options: more mount options, comma-separated. what: the point and the volume, for people.

    Raises: PermissionDeniedError: not root. UsageError: what is in it cannot be mounted. BusyError: the directory is in use, or the
    file is, and one of the two writes to it. NameTakenError: the directory is not empty. NotFoundError, StoreError, TimedOutError.
    """
    require_root()
    extra = checked_options(options, writable=writable)
    with suppress(StoreError):  # what cannot be taken away is not in the way of this one
        clean_all()
    source = Path(os.path.realpath(source_file))
    target = Path(os.path.realpath(directory))
    _check_text(source, target)
    with locked(str(target)) as lock:
        clean_one(lock)  # of one who was killed, and has been waited for
        _check_directory(target, lock.read())
        content = look(source, partition)
        way = way_of(content, what or str(source), writable=writable)
        attached = Attached(
            directory=str(target),
            device="",
            filesystem=content.kind,
            partition=partition,
            options="",
            writable=writable and "rw" in way.attempts[0].split(","),
            source=str(source),
            what=what,
            since=iso(time.time_ns()),
            notes=[],
        )
        return _attach(lock, _record(attached, made_directory=not target.exists()), content, way, extra)


def _attach(lock: Lock, record: Record, content: Content, way: Way, extra: list[str]) -> Attached:
    """Raises: what goes wrong; then it is all as it was."""
    target, source = Path(record.attached.directory), Path(record.attached.source)
    lock.write(record)
    try:
        check_alone(record.attached)
        if record.made_directory:
            _make(target)
        place = {"offset_bytes": content.offset_bytes, "length_bytes": content.length_bytes}
        with loop(source, writable=record.attached.writable, **place) as device:
            record = _at(lock, record, "mounting", replace(record.attached, device=device.path))
            done = mount(way, device, target, extra, content.uuid, lock.fd)
        attached = replace(record.attached, options=done.options, notes=done.notes)
        return _at(lock, record, "attached", attached).attached
    except BaseException:
        clean(lock, record)
        raise


def detach(directory: str | Path, *, lazy: bool = False) -> Attached:
    """Unmount what was attached there; its loop device goes with it, and the directory if it was made. Returns: what it was.

    Args: lazy: also if somebody uses it, who keeps it until they end.

    Raises: NotFoundError: nothing was attached there. BusyError: who uses it, or works on it. PermissionDeniedError, StoreError.
    """
    require_root()
    target = os.path.realpath(directory)
    with locked(target) as lock:
        record = lock.read()
        if record is None:
            raise NotFoundError(f"nothing is attached at {target}", hint="vsnapfs attach list shows what is")
        if record.namespace != own_namespace():
            raise BusyError(f"{target} was attached in another mount namespace", hint="detach it there")
        if is_ours(record):
            _at(lock, record, "detaching", record.attached)
            try:
                unmount(target, record.attached.device, lazy=lazy, lock_fd=lock.fd)
            except BaseException:
                _at(lock, record, record.step, record.attached)
                raise
        remove_directory(record)
        lock.forget()
        return record.attached


def require_root() -> None:
    """Raises: PermissionDeniedError."""
    if os.geteuid() != 0:
        raise PermissionDeniedError(
            "loop devices and mounts are for root", hint="ask root, or use the image without a mount"
        )


def _record(attached: Attached, *, made_directory: bool) -> Record:
    tree = entry_around(Path(attached.source))
    ours = tree is not None and tree.filesystem_type == VSNAPFS
    return Record(
        attached=attached,
        step="begun",
        pid=os.getpid(),
        made_directory=made_directory,
        tree=tree.path if tree is not None and ours else "",
        tree_device=tree.device if tree is not None and ours else "",
        namespace=own_namespace(),
    )


def _at(lock: Lock, record: Record, step: Step, attached: Attached) -> Record:
    return lock.write(replace(record, step=step, pid=os.getpid(), attached=attached))


def _check_text(*paths: Path) -> None:
    """Raises: UsageError: a path that a record, which is JSON, cannot have."""
    for path in paths:
        try:
            str(path).encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"{str(path)!r} is not text", hint="attach takes paths in UTF-8") from error


def _check_directory(target: Path, record: Record | None) -> None:
    """Raises: BusyError, NameTakenError, UsageError: it is not there to be mounted on."""
    if record is not None:
        shown = record.attached.what or record.attached.source
        raise BusyError(f"{target} shows {shown} already", hint=f"vsnapfs detach {target}")
    entry = entry_of(target)
    if entry is not None:
        raise BusyError(f"{entry.source} is mounted on {target}", hint="take another directory")
    try:
        with os.scandir(target) as names:
            is_empty = next(names, None) is None
    except FileNotFoundError:
        return
    except NotADirectoryError as error:
        raise UsageError(f"{target} is not a directory") from error
    except OSError as error:
        raise from_os_error(error, f"look into {target}") from error
    if not is_empty:
        raise NameTakenError(f"{target} is not empty", hint="take an empty directory, or one that is not there yet")


def _make(target: Path) -> None:
    try:
        target.mkdir(mode=0o700)
    except OSError as error:
        raise from_os_error(error, f"make the directory {target}") from error

"""The directory that is mounted on: whether it can be, what is on it now, who keeps it busy. No FUSE in here.

A mount whose server died by kill -9 answers ENOTCONN. If it is one of ours, of the same repository, it is taken away,
so that starting again is all that is needed; any other is left to its owner.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import structlog

from vsnapfs.core.errors import BusyError, NotFoundError, StoreError, UsageError, from_os_error

FILESYSTEM_TYPE = "fuse.vsnapfs"
HOLDERS_MAX = 8
UNSERVED = frozenset({errno.ENOTCONN, errno.ECONNABORTED, errno.ECANCELED})
"""What the kernel answers where nobody serves any more: not connected; while the server is dying, aborted; and cancelled,
what had come to its io_uring."""

log = structlog.get_logger(__name__)


class MountEntry(msgspec.Struct, frozen=True):
    """A line of mountinfo."""

    mount_id: str
    device: str
    """``major:minor`` in decimal."""
    path: str
    filesystem_type: str
    source: str


def prepare(mountpoint: Path, repository: Path) -> Path:
    """The absolute path to mount on, freed of a dead mount of this repository.

    Raises: NotFoundError: missing. UsageError: not a directory, or in the way of the repository. BusyError: vsnapfs
    is mounted there, or something else that is dead.
    """
    target = Path(os.path.abspath(mountpoint))
    existing = entry_of(target)
    if _is_dead(target):
        _take_away(target, existing, repository)
    elif existing is not None and existing.filesystem_type == FILESYSTEM_TYPE:
        raise BusyError(f"{target} already shows {existing.source}", hint=f"umount {target} first")
    target = target.resolve()
    inside = repository.resolve()
    if target == inside or target in inside.parents or inside in target.parents:
        raise UsageError(f"{target} and the repository {inside} overlap", hint="mount on a directory of its own")
    return target


def _is_dead(target: Path) -> bool:
    """True for a mount without a server. Raises: as ``prepare``."""
    try:
        os.statvfs(target)  # asks the server; the kernel answers stat of a dead mount from what it remembers
        mode = target.stat().st_mode
    except OSError as error:
        if error.errno in UNSERVED:
            return True
        if error.errno == errno.ENOENT:
            raise NotFoundError(f"{target} is not there", hint=f"make it first: mkdir -p {target}") from error
        raise from_os_error(error, f"mount on {target}") from error
    if not stat.S_ISDIR(mode):
        raise UsageError(f"{target} is not a directory", hint="a mount needs a directory")
    return False


def _take_away(target: Path, existing: MountEntry | None, repository: Path) -> None:
    ours = existing is not None and existing.filesystem_type == FILESYSTEM_TYPE and existing.source == str(repository)
    if not ours:
        whose = f"{existing.filesystem_type} of {existing.source}" if existing else "something"
        raise BusyError(f"{target} is a dead mount of {whose}", hint=f"umount -l {target} first")
    log.warning("took away the mount of a server that died", mountpoint=str(target))
    command = ["umount", "-l"] if os.geteuid() == 0 else ["fusermount3", "-u", "-z"]
    done = subprocess.run([*command, "--", str(target)], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise StoreError(f"cannot umount the dead mount {target}: {done.stderr.strip()}")


def entry_of(target: Path) -> MountEntry | None:
    """The mount that is on top at ``target``, in this process's mount namespace."""
    found = [entry for entry in mounts() if entry.path == str(target)]
    return found[-1] if found else None


def mounts() -> Iterator[MountEntry]:
    """Every mount of this process's namespace."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        first, _, second = line.partition(" - ")
        left, right = first.split(" "), second.split(" ")
        yield MountEntry(left[0], left[2], _unescape(left[4]), right[0], _unescape(right[1]))


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def holders(target: Path) -> list[str]:
    """Who keeps the mount at ``target`` busy, in words: processes, loop devices, mounts below; at most HOLDERS_MAX.

    Asks no filesystem for anything, so it cannot hang on a dead one.
    """
    entry = entry_of(target)
    if entry is None:
        return []
    below = [f"mount {other.path}" for other in mounts() if other.path.startswith(f"{target}/")]
    found = [*below, *_loop_devices(target), *_processes(entry)]
    return found[:HOLDERS_MAX]


def users_of(directory: Path) -> list[str]:
    """Who has a file open in a directory of a mount, in words, as ``holders`` and as safe; at most HOLDERS_MAX."""
    found = [*_loop_devices(directory), *_openers(directory)]
    return found[:HOLDERS_MAX]


def _openers(directory: Path) -> Iterator[str]:
    for process in Path("/proc").glob("[0-9]*"):
        targets = (_target_of(link) for link in _children(process / "fd"))
        if any(_is_below(target, str(directory)) for target in targets):
            yield f"{_text(process / 'comm').strip()} (pid {process.name})"


def _loop_devices(target: Path) -> Iterator[str]:
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        path = _text(backing).rstrip("\n")
        if _is_below(path, str(target)):
            yield f"/dev/{backing.parts[3]} on {path}"


def _processes(entry: MountEntry) -> Iterator[str]:
    for process in Path("/proc").glob("[0-9]*"):
        why = next(_uses(process, entry), None)
        if why is not None:
            yield f"{_text(process / 'comm').strip()} (pid {process.name}, {why})"


def _uses(process: Path, entry: MountEntry) -> Iterator[str]:
    for link in ("cwd", "root"):
        if _is_below(_target_of(process / link), entry.path):
            yield link
    mark = f"mnt_id:\t{entry.mount_id}\n"
    for fdinfo in _children(process / "fdinfo"):
        if mark in _text(fdinfo):
            yield f"open {_target_of(process / 'fd' / fdinfo.name)}"
    if any(_maps_device(line, entry.device) for line in _text(process / "maps").splitlines()):
        yield "mapped file"


def _maps_device(line: str, device: str) -> bool:
    """Whether a line of maps names the device. maps writes it in hexadecimal, mountinfo in decimal."""
    major, minor = (int(part) for part in device.split(":"))
    fields = line.split(maxsplit=5)
    return len(fields) > 4 and fields[3] == f"{major:02x}:{minor:02x}"


def _is_below(path: str, directory: str) -> bool:
    return path == directory or path.startswith(f"{directory}/")


def _children(directory: Path) -> Iterable[Path]:
    """Processes end while one looks; then they hold nothing."""
    try:
        return list(directory.iterdir())
    except OSError:
        return []


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _target_of(link: Path) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""

"""Who keeps a mount busy: processes, loop devices on its files, mounts below it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from vsnapfs.mounts.table import MountEntry, entry_of, is_below, mounts

HOLDERS_MAX = 8


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
        if any(is_below(target, str(directory)) for target in targets):
            yield f"{_text(process / 'comm').strip()} (pid {process.name})"


def _loop_devices(target: Path) -> Iterator[str]:
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        path = _text(backing).rstrip("\n")
        if is_below(path, str(target)):
            yield f"/dev/{backing.parts[3]} on {path}"


def _processes(entry: MountEntry) -> Iterator[str]:
    for process in Path("/proc").glob("[0-9]*"):
        why = next(_uses(process, entry), None)
        if why is not None:
            yield f"{_text(process / 'comm').strip()} (pid {process.name}, {why})"


def _uses(process: Path, entry: MountEntry) -> Iterator[str]:
    for link in ("cwd", "root"):
        if is_below(_target_of(process / link), entry.path):
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

"""What is in a volume's file: a partition table, a filesystem, or something else. Told by partx and blkid of util-linux.

The kernel is never asked to scan for partitions: not every one can, and then devices of all partitions of an image that
nobody trusts would be there for everybody, until somebody takes them away.
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import NamedTuple

from vsnapfs.attach.programs import run
from vsnapfs.core.errors import StoreError, UsageError, from_os_error
from vsnapfs.core.units import format_size

PACKAGE = "util-linux"
TIMEOUT_S = 60.0
SECTOR_BYTES = 512
"""The unit that libblkid counts partitions in, whatever the disk's sectors."""
NOTHING, AMBIVALENT = 2, 8
"""Exit statuses of blkid."""


class Partition(NamedTuple):
    """A line of a partition table."""

    number: int
    offset_bytes: int
    length_bytes: int


class Content(NamedTuple):
    """What a range of a file holds. kind: as blkid calls it; "": nothing that is known. table: the kind of partition table, or "".
    length_bytes 0: up to the end."""

    kind: str
    usage: str
    uuid: str
    table: str = ""
    offset_bytes: int = 0
    length_bytes: int = 0


def look(source: Path, partition: int | None) -> Content:
    """What there is to be mounted in a file, or in a partition of it.

    Raises: UsageError: which partition has to be said, or there is no such one; or it may be one of several filesystems. NotFoundError,
    PermissionDeniedError: the file cannot be read. TimedOutError. StoreError: blkid cannot tell.
    """
    _check_file(source)
    whole = _probed(source)
    if partition is None:
        if whole.table and not whole.kind:
            listed = _listed(source)
            if not listed:
                raise UsageError(f"{source} has a partition table ({whole.table}) without a partition that can be told")
            raise UsageError(f"{source} has partitions: {listed}", hint="say which with --partition N")
        return whole
    found = {each.number: each for each in partitions(source)}
    if not found:
        raise UsageError(f"{source} has no partitions", hint="leave out --partition")
    if partition not in found:
        raise UsageError(f"{source} has no partition {partition}", hint=f"it has {', '.join(map(str, sorted(found)))}")
    return _probed(source, found[partition])


def partitions(source: Path) -> list[Partition]:
    """Of the table that libblkid finds first, with sectors of 512 bytes or of 4096, in the order of the table; none: there is none."""
    for sector_bytes in (512, 4096):
        argv = ["partx", "--show", "--noheadings", "--bytes", "--output", "NR,START,SECTORS"]
        done = run([*argv, "--sector-size", str(sector_bytes), "--", str(source)], PACKAGE, timeout_s=TIMEOUT_S)
        found = [_partition(line) for line in done.output.splitlines() if line.strip()] if done.status == 0 else []
        if found:
            return found
    return []


def _partition(line: str) -> Partition:
    number, start, sectors = (int(word) for word in line.split())
    return Partition(number, start * SECTOR_BYTES, sectors * SECTOR_BYTES)


def _check_file(source: Path) -> None:
    try:
        mode = source.stat().st_mode
    except OSError as error:
        raise from_os_error(error, f"look at {source}") from error
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        raise UsageError(f"{source} is neither a file nor a block device", hint="it has to be a volume's image")


def _probed(source: Path, part: Partition | None = None) -> Content:
    """Raises: UsageError: several things at once. StoreError: blkid broke."""
    place = [] if part is None else ["--offset", str(part.offset_bytes), "--size", str(part.length_bytes)]
    done = run(["blkid", "--probe", *place, "--output", "export", "--", str(source)], PACKAGE, timeout_s=TIMEOUT_S)
    if done.status == AMBIVALENT:
        raise UsageError(f"{source} has marks of several filesystems", hint="wipefs lists them, on a copy or a branch")
    if done.status not in (0, NOTHING):
        raise StoreError(f"cannot tell what {source} holds: {done.said()}")
    told = dict(line.split("=", 1) for line in done.output.splitlines() if "=" in line)
    offset_bytes, length_bytes = (0, 0) if part is None else part[1:]
    kind, usage, uuid, table = (told.get(name, "") for name in ("TYPE", "USAGE", "UUID", "PTTYPE"))
    return Content(kind, usage, uuid, table, offset_bytes, length_bytes)


def _listed(source: Path) -> str:
    """``1 (ext4, 2 GiB), 2 (swap, 512 MiB)``"""
    each = ((part, _probed(source, part)) for part in partitions(source))
    return ", ".join(
        f"{part.number} ({found.kind or 'nothing known'}, {format_size(part.length_bytes)})" for part, found in each
    )

"""Which file bytes of a volume belong to, where its filesystem can tell: debugfs for ext2, ext3 and ext4, xfs_db for XFS, and FIEMAP
of mounted files for others, which is bounded in time.

A volume that was in use has what is new in its filesystem's journal alone, where none of these programs looks. So they are given a
branch, which is mounted for a moment first: that replays the journal.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from vsnapfs.attach import attached, device_of
from vsnapfs.attach.content import look, partitions
from vsnapfs.attach.programs import run
from vsnapfs.core.errors import UntestableError
from vsnapfs.core.hunt import HuntFile

PROGRAM_S_MAX = 120.0
WALK_S_MAX = 60.0
BLOCKS_MAX = 256
"""Of a long write the first are looked up."""
FILES_MAX = 32
EXT = {"ext2", "ext3", "ext4"}
OWN_ADDRESSES = {"btrfs", "zfs_member"}
"""Their FIEMAP tells places in the filesystem, not on the volume."""
SPECIAL_INODES = {1: "bad blocks", 7: "metadata", 8: "journal"}
ROOT_INODE = 2
SECTOR_BYTES = 512

FS_IOC_FIEMAP = 0xC020660B
FIEMAP_FLAG_SYNC = 1
FIEMAP_EXTENT_LAST, FIEMAP_EXTENT_UNKNOWN = 1, 2
EXTENTS_PER_CALL = 256
REQUEST = struct.Struct("=QQIIII")
EXTENT = struct.Struct("=QQQQQIIII")


class Bytes(NamedTuple):
    """A range of a filesystem's device."""

    offset_bytes: int
    length_bytes: int


def files_at(source: Path, offset_bytes: int, length_bytes: int, directory: Path) -> tuple[str, list[HuntFile]]:
    """The filesystem of a volume's file, as blkid calls it, and what it has at these bytes of the volume.

    Args: source: of a branch that nobody needs: its filesystem replays its journal. directory: to be made, and mounted on.
    Raises: UntestableError: nobody can tell, and why; others of core.errors.
    """
    number, place = _part(source, Bytes(offset_bytes, length_bytes))
    kind = look(source, number).kind
    if not kind:
        raise UntestableError("the volume has no filesystem that is known")
    if kind in OWN_ADDRESSES:
        raise UntestableError(f"{kind} does not tell which file bytes of its volume belong to")
    with attached(source, directory, writable=True, partition=number):
        if kind not in EXT and kind != "xfs":
            return kind, _of_mounted(directory, place)
    with device_of(source, partition=number) as device:
        return kind, _of_ext(device.path, place) if kind in EXT else _of_xfs(device.path, place)


def _part(source: Path, place: Bytes) -> tuple[int | None, Bytes]:
    """The partition that the bytes lie in, if there are partitions, and where in it. Raises: UntestableError: in none."""
    parts = partitions(source)
    if not parts:
        return None, place
    for part in parts:
        if part.offset_bytes <= place.offset_bytes < part.offset_bytes + part.length_bytes:
            return part.number, Bytes(place.offset_bytes - part.offset_bytes, place.length_bytes)
    raise UntestableError("it is in no partition of the volume: a table of partitions, or between them")


def _blocks(place: Bytes, block_bytes: int) -> list[int]:
    first, last = place.offset_bytes // block_bytes, (place.offset_bytes + place.length_bytes - 1) // block_bytes
    return list(range(first, min(last + 1, first + BLOCKS_MAX)))


def _of_ext(device: str, place: Bytes) -> list[HuntFile]:
    size = re.search(r"^Block size:\s+(\d+)$", _debugfs(device, "stats -h"), re.MULTILINE)
    if size is None:
        raise UntestableError("debugfs cannot read the filesystem")
    told = _debugfs(device, f"icheck {' '.join(map(str, _blocks(place, int(size[1]))))}")
    found = [line.split("\t", 1)[1].strip() for line in told.splitlines() if re.match(r"\d+\t", line)]
    inodes = sorted({int(word) for word in found if word.isdigit()})[:FILES_MAX]
    plain = [number for number in inodes if number not in SPECIAL_INODES]
    names = {ROOT_INODE: "/"} | (_ext_names(device, plain) if plain else {})
    files = [
        HuntFile(path=names.get(number, ""), inode=number, what=SPECIAL_INODES.get(number) or _ext_type(device, number))
        for number in inodes
    ]
    if len(inodes) == 0 or any(not word.isdigit() for word in found):
        files.append(HuntFile(path="", inode=None, what="metadata, or free"))
    return files


def _ext_type(device: str, inode: int) -> str:
    """``file``, ``directory``, ``symlink``."""
    told = re.search(r"Type: (\w+)", _debugfs(device, f"stat <{inode}>"))
    return "file" if told is None or told[1] == "regular" else told[1]


def _ext_names(device: str, inodes: list[int]) -> dict[int, str]:
    told = _debugfs(device, f"ncheck {' '.join(map(str, inodes))}")
    lines = (re.fullmatch(r"(\d+)\t(.*)", line) for line in told.splitlines())
    return {int(line[1]): "/" + line[2].lstrip("/") for line in reversed([line for line in lines if line])}


def _debugfs(device: str, command: str) -> str:
    """-c: it reads no bitmaps, so it opens what was in use too."""
    return run(["debugfs", "-c", "-R", command, device], "e2fsprogs", timeout_s=PROGRAM_S_MAX).output


def _of_xfs(device: str, place: Bytes) -> list[HuntFile]:
    """By sectors of 512 bytes: xfs_db turns them into blocks. One is asked for in each 4 KiB."""
    sectors = [at // SECTOR_BYTES * 8 for at in (block * SECTOR_BYTES for block in _blocks(place, 4096))]
    commands = ["blockget -n", *(command for sector in sectors for command in (f"daddr {sector}", "blockuse -n"))]
    words = [word for command in commands for word in ("-c", command)]
    told = run(["xfs_db", "-r", *words, device], "xfsprogs", timeout_s=PROGRAM_S_MAX)
    found = re.findall(r"^block \d+ \([\d/]+\) type (\S+)(?: inode (\d+)(?: (.*))?)?$", told.output, re.MULTILINE)
    if not found:
        raise UntestableError(f"xfs_db cannot tell: {told.said()}")
    files = {
        HuntFile(
            path="/" + path.lstrip("/") if path else "",
            inode=int(inode) if inode else None,
            what="file" if kind == "data" and inode else kind,
        ): None
        for kind, inode, path in found
    }
    return list(files)[:FILES_MAX]


def _of_mounted(directory: Path, place: Bytes) -> list[HuntFile]:
    """Files that have a piece there. Raises: UntestableError: none was found in time, or the filesystem does not tell."""
    files: list[HuntFile] = []
    end = time.monotonic() + WALK_S_MAX
    for path in _walk(directory):
        if time.monotonic() > end or len(files) == FILES_MAX:
            break
        try:
            found = _has(path, place)
        except OSError as error:
            raise UntestableError(f"this filesystem does not tell where its files are: {error.strerror}") from error
        if found:
            name = os.fsencode(path.relative_to(directory)).decode(errors="replace")
            files.append(HuntFile(path=f"/{name}", inode=path.lstat().st_ino, what="file"))
    if not files:
        raise UntestableError(
            "no file has a piece there: it is metadata, or free, or there are too many files to look at"
        )
    return files


def _walk(directory: Path) -> Iterator[Path]:
    """Plain files, in order of their names."""
    for top, directories, names in os.walk(directory):
        directories.sort()
        for name in sorted(names):
            path = Path(top, name)
            if stat.S_ISREG(path.lstat().st_mode):
                yield path


def _has(path: Path, place: Bytes) -> bool:
    """Raises: OSError: FIEMAP does not work there."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        return any(
            start < place.offset_bytes + place.length_bytes and place.offset_bytes < start + length
            for start, length in _extents(fd)
        )
    finally:
        os.close(fd)


def _extents(fd: int) -> Iterator[tuple[int, int]]:
    """Where the pieces of a file lie on its device, in bytes."""
    at = 0
    while True:
        request = bytearray(REQUEST.size + EXTENTS_PER_CALL * EXTENT.size)
        REQUEST.pack_into(request, 0, at, 2**63 - 1 - at, FIEMAP_FLAG_SYNC, 0, EXTENTS_PER_CALL, 0)
        fcntl.ioctl(fd, FS_IOC_FIEMAP, request)
        count = REQUEST.unpack_from(request)[3]
        for number in range(count):
            logical, physical, length, _, _, flags, *_ = EXTENT.unpack_from(
                request, REQUEST.size + number * EXTENT.size
            )
            if not flags & FIEMAP_EXTENT_UNKNOWN:
                yield physical, length
            if flags & FIEMAP_EXTENT_LAST:
                return
            at = logical + length
        if count == 0:
            return

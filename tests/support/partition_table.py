"""A GPT, written by hand: of disks with sectors of 512 bytes and of 4096, which no partitioning tool makes in a file."""

from __future__ import annotations

import struct
import uuid
import zlib
from collections.abc import Sequence
from pathlib import Path

ENTRY_BYTES = 128
ENTRIES = 128
LINUX_DATA = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")


def write_gpt(disk: Path, partitions: Sequence[tuple[int, int]], *, sector_bytes: int = 512) -> None:
    """Write a table over a file of its final size. partitions: offset and length in bytes, in whole sectors, the first not below 1 MiB."""
    sectors = disk.stat().st_size // sector_bytes
    table_sectors = ENTRIES * ENTRY_BYTES // sector_bytes
    entries = b"".join(_entry(*each, sector_bytes) for each in partitions).ljust(ENTRIES * ENTRY_BYTES, b"\0")
    first, last = 2 + table_sectors, sectors - table_sectors - 2
    with disk.open("r+b") as file:
        file.seek(446)
        file.write(struct.pack("<B3sB3sII", 0, b"\0\2\0", 0xEE, b"\xff" * 3, 1, min(sectors - 1, 0xFFFFFFFF)))
        file.seek(510)
        file.write(b"\x55\xaa")
        for own, other, table in ((1, sectors - 1, 2), (sectors - 1, 1, sectors - 1 - table_sectors)):
            file.seek(own * sector_bytes)
            file.write(_header(own, other, first, last, table, entries))
            file.seek(table * sector_bytes)
            file.write(entries)


def _entry(offset_bytes: int, length_bytes: int, sector_bytes: int) -> bytes:
    first = offset_bytes // sector_bytes
    own = uuid.uuid5(LINUX_DATA, str(offset_bytes))
    last = first + length_bytes // sector_bytes - 1
    return struct.pack("<16s16sQQQ72s", LINUX_DATA.bytes_le, own.bytes_le, first, last, 0, b"")


def _header(own: int, other: int, first: int, last: int, table: int, entries: bytes) -> bytes:
    disk = uuid.uuid5(LINUX_DATA, "disk").bytes_le

    def packed(checksum: int) -> bytes:
        return struct.pack(
            "<8sIIIIQQQQ16sQIII",
            *(b"EFI PART", 0x10000, 92, checksum, 0, own, other, first, last, disk, table),
            *(ENTRIES, ENTRY_BYTES, zlib.crc32(entries)),
        )

    return packed(zlib.crc32(packed(0)))

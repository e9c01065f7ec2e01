"""CRC32C of what is stored elsewhere than in a segment.

Source: native/include/checksum.h.
"""

from __future__ import annotations

from vsnapfs.binding._native import ffi, lib
from vsnapfs.binding.faults import check

CRC_BYTES = 4


def chunk_crcs(buffer: bytes | bytearray | memoryview, chunk_bytes: int) -> bytes:
    """The CRC32C of each chunk of a contiguous buffer, little-endian u32, the last of a chunk that may be shorter.

    Raises: UsageError: chunk_bytes is not positive.
    """
    chunk = max(chunk_bytes, 0)
    with ffi.from_buffer("uint8_t[]", buffer) as data:
        crcs = bytearray(-(-len(data) // chunk) * CRC_BYTES if chunk else 0)
        with ffi.from_buffer("uint8_t[]", crcs) as out:
            check(lib.vs_chunk_crcs(data, len(data), chunk, out), "take checksums of chunks")
    return bytes(crcs)

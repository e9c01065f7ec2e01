"""Whether a tape file is a whole index: its first line has the digest of the rest, so nothing else of it needs to be understood.

Source: docs/tape-format.md, section on the index.
"""

from __future__ import annotations

import hashlib

from vsnapfs.core.errors import VsnapfsError
from vsnapfs.media.tape import TapeReader

FIRST = b"vsnapfs index "
LINE_BYTES_MAX = 256
READ_BYTES = 1 << 20


def is_whole_index(reader: TapeReader) -> bool:
    """Reads it to its end. Zeros behind it are what a drive's last block was filled up with."""
    buffer = memoryview(bytearray(READ_BYTES))
    found = bytearray()
    try:
        while count := reader.readinto(buffer):
            found += buffer[:count]
            if not found.startswith(FIRST[: len(found)]):
                return False
    except VsnapfsError:
        return False
    line, newline, rest = bytes(found).rstrip(b"\0").partition(b"\n")
    if not newline or len(line) > LINE_BYTES_MAX:
        return False
    return line.rpartition(b" ")[2] == hashlib.sha256(rest).hexdigest().encode()

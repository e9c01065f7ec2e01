"""Writes that are played onto a file."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple


class Write(NamedTuple):
    """One write."""

    offset_bytes: int
    content: bytes


def apply(file: Path, writes: Iterable[Write]) -> None:
    """Write each at its place, then sync once."""
    fd = os.open(file, os.O_WRONLY)
    try:
        for write in writes:
            os.pwrite(fd, write.content, write.offset_bytes)
        os.fsync(fd)
    finally:
        os.close(fd)

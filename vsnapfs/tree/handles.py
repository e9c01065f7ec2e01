"""Open files of text and open directories, by handle number.

A number is the inode's with bit 63 set, which those of volumes never have: it needs no table, so that it means the same to
the worker that goes on after another was killed.
"""

from __future__ import annotations

HANDLE_BIT = 1 << 63


def handle_of(ino: int) -> int:
    """The handle of an inode."""
    return ino | HANDLE_BIT


def inode_of(handle: int) -> int:
    """The inode of a handle that ``handle_of`` made."""
    return handle & ~HANDLE_BIT


class Texts:
    """What open files of text hold: it stays as it was when the first of those who have it open now opened it, whatever
    becomes of the file. Threads: one, the event loop's.
    """

    def __init__(self) -> None:
        self._open: dict[int, tuple[bytes, int]] = {}

    def open(self, ino: int, content: bytes) -> None:
        held, users = self._open.get(ino, (content, 0))
        self._open[ino] = (held, users + 1)

    def get(self, ino: int) -> bytes | None:
        """None: it was opened in another process."""
        held = self._open.get(ino)
        return None if held is None else held[0]

    def close(self, ino: int) -> None:
        held, users = self._open.get(ino, (b"", 0))
        if users > 1:
            self._open[ino] = (held, users - 1)
        else:
            self._open.pop(ino, None)

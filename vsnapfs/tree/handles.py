"""Open files and directories, by handle number.

The plane gives volumes their numbers; those of text and of directories are given here and have bit 63 set, which the
plane's never have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count

from vsnapfs.tree.nodes import Directory, LiveFile, ViewFile
from vsnapfs.tree.tree import Entry

HANDLE_BIT = 1 << 63


class OpenDirectory:
    """A directory that somebody lists. Its entries are read once, and again after a rewind. An entry's cookie is the
    number of entries up to it, so what is added or removed meanwhile makes none of the others come twice or not at
    all."""

    def __init__(self, node: Directory) -> None:
        self.node = node
        self.entries: Sequence[Entry] | None = None


class Handles:
    """Threads: one, the event loop's. Raises KeyError for a number that is not open."""

    def __init__(self) -> None:
        self._numbers = count(HANDLE_BIT)
        self._texts: dict[int, bytes] = {}
        self._directories: dict[int, OpenDirectory] = {}
        self._volumes: dict[int, ViewFile | LiveFile] = {}

    def open_volume(self, number: int, node: ViewFile | LiveFile) -> None:
        """number: the plane's."""
        self._volumes[number] = node

    def volumes(self) -> Mapping[int, ViewFile | LiveFile]:
        """What is open, as it was when it was opened."""
        return self._volumes

    def close_volume(self, number: int) -> None:
        del self._volumes[number]

    def open_text(self, content: bytes) -> int:
        """The content stays as it was at the open, whatever becomes of the file."""
        number = next(self._numbers)
        self._texts[number] = content
        return number

    def text(self, number: int) -> bytes:
        return self._texts[number]

    def close_text(self, number: int) -> bool:
        """False: no file of text has that number."""
        return self._texts.pop(number, None) is not None

    def open_directory(self, node: Directory) -> int:
        number = next(self._numbers)
        self._directories[number] = OpenDirectory(node)
        return number

    def directory(self, number: int) -> OpenDirectory:
        return self._directories[number]

    def close_directory(self, number: int) -> None:
        del self._directories[number]

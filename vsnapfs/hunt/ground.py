"""What a hunt stands on: points, states of volumes, and places in which a test finds them.

The real one is served.ServedGround; tests have others.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from vsnapfs.core.hunt import HuntWrite
from vsnapfs.core.model import Point
from vsnapfs.hunt.log import Making, Named


class Place(NamedTuple):
    """Where a test finds the volumes. ``argument``: stands for ``{}``: the one volume, or the directory with an entry for each.
    ``volumes``: by name: a mounted directory, or the volume as a file."""

    argument: Path
    directory: Path
    volumes: dict[str, Path]


class Ground(Protocol):
    """Threads: any; several at once. Each call may wait for storage, and raises core.errors."""

    def make_safe(self, name: str) -> Point:
        """Bookmark this moment."""
        ...

    def named(self) -> Named:
        """The bookmarks from one end to the other that can be opened now, and their states."""
        ...

    def instants(self, good: int, bad: int) -> Sequence[int]:
        """States between two that can be opened now, ascending; if they are too many, some of them, evenly."""
        ...

    def point(self, state: int) -> Point:
        """The first point of a state. Raises: PointGoneError."""
        ...

    def make(self, spot: Making) -> Place:
        """Make what a test needs. What fails leaves what ``clear`` removes.

        Raises: PointGoneError: the point is not there any more. UntestableError: it can be opened and not be shown as was asked.
        """
        ...

    def check(self) -> None:
        """Was all there during the test? A test that lost its volumes says anything. Raises: NotFoundError: it was not."""
        ...

    def clear(self, spot: Making) -> None:
        """Remove all that ``make`` has made or begun to make, also if another process did. Twice is allowed."""
        ...

    def write(self, good: int, bad: int, spot: Making) -> HuntWrite:
        """The record that is the step from one state to the next. spot: what may be made to look up the file it belongs to.

        Raises: PointGoneError: records between them are not there any more, so it may have been another.
        """
        ...

"""Where the benchmark may write, how much it does, and whom it compares with."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Plan(NamedTuple):
    """What one call of the benchmark does."""

    disk: Path
    """An empty directory on a real disk, where a sync costs what it costs."""
    memory: Path
    """An empty directory in memory, where the medium costs nothing."""
    runs: int
    seconds: float
    """Of one run of a timed measurement."""
    volume_bytes: int
    records: int
    """Of the largest journal that is opened."""
    bookmarks: int
    extents: int
    """Of the bookmark that is read most."""
    passthrough_hp: Path | None
    """libfuse's example program, if there is one."""

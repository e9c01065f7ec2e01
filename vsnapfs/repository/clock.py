"""The machine's clock, as far as it is believed: somebody may set it, forward by a year too, and nothing gets older by that.

From when a repository is opened on, no more time has passed than the system has counted, which nobody sets. What the clock says beyond
that is not believed before the repository is opened again, by somebody who can see to the clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable


def _counted_ns() -> int:
    """Goes on while the machine sleeps."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Clock:
    """From its making on. wall_ns, counted_ns: for tests."""

    def __init__(self, wall_ns: Callable[[], int] = time.time_ns, counted_ns: Callable[[], int] = _counted_ns) -> None:
        self.wall_ns = wall_ns
        self._counted_ns = counted_ns
        self._began_ns = wall_ns() - counted_ns()

    def believed_ns(self) -> int:
        """Nanoseconds since 1970; never after the clock."""
        return min(self.wall_ns(), self._began_ns + self._counted_ns())

    def set_forward_ns(self) -> int:
        """How far the clock was set forward: so much of it is not believed."""
        return self.wall_ns() - self.believed_ns()

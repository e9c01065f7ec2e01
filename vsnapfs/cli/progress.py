"""A progress bar on standard error while long work runs, if that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import TaskID

    from vsnapfs.core.state import Progress

Report = Callable[["Progress"], None]


@contextmanager
def shown(*, wanted: bool) -> Iterator[Report]:
    """A callback that shows progress while the block runs; it shows nothing if not wanted or not on a terminal."""
    if not (wanted and sys.stderr.isatty()):
        yield _ignore
        return
    bars = Bars()
    try:
        yield bars.report
    finally:
        bars.end()


def _ignore(_: Progress) -> None:
    pass


class Bars:
    """A bar for each thing that is told of. Nothing is loaded or drawn before the first."""

    def __init__(self) -> None:
        self._tasks: dict[str, TaskID] = {}
        self._drawn: _Drawn | None = None

    def report(self, progress: Progress) -> None:
        if self._drawn is None:
            self._drawn = _Drawn(progress.unit)
        if progress.what not in self._tasks:
            self._tasks[progress.what] = self._drawn.bars.add_task(progress.what, total=progress.total)
        self._drawn.bars.update(self._tasks[progress.what], completed=progress.done, total=progress.total)

    def end(self) -> None:
        if self._drawn is not None:
            self._drawn.bars.stop()


class _Drawn:
    """The bars of rich, running."""

    def __init__(self, unit: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        counted = DownloadColumn(binary_units=True) if unit == "bytes" else MofNCompleteColumn()
        name = TextColumn("{task.description}", markup=False)
        self.bars = RichProgress(
            name, BarColumn(), counted, TimeRemainingColumn(), console=Console(stderr=True), transient=True
        )
        self.bars.start()

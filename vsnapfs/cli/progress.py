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
        from rich import progress
        from rich.console import Console

        of_bytes = (progress.DownloadColumn(binary_units=True), progress.TransferSpeedColumn())
        counted = of_bytes if unit == "bytes" else (progress.MofNCompleteColumn(),)
        name = progress.TextColumn("{task.description}", markup=False)
        columns = (name, progress.BarColumn(), *counted, progress.TimeRemainingColumn())
        self.bars = progress.Progress(*columns, console=Console(stderr=True), transient=True)
        self.bars.start()

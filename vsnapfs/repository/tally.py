"""How far a long piece of work is, over several volumes as one."""

from __future__ import annotations

from collections.abc import Callable

from vsnapfs.core.state import Progress
from vsnapfs.repository.parts import Parts, Report


class Tally:
    """Of one of them. before: bytes of those that are done. total: of all of them. settled: who goes on from where it ended."""

    def __init__(
        self,
        parts: Parts,
        what: str,
        before: int,
        total: int,
        report: Report,
        settled: Callable[[int], None] | None = None,
    ) -> None:
        self._parts, self._report = parts, report
        self._what, self._before, self._total = what, before, total
        self._settled = settled

    def at(self, done: int) -> None:
        """So many bytes of this one are looked at. Raises: BusyError: the repository is being closed."""
        self._parts.tell(self._report, Progress(what=self._what, done=self._before + done, total=self._total))

    def settled(self, done: int) -> None:
        """So many are done for good. Where nobody goes on from there, what is done again writes what still differs."""
        if self._settled is not None:
            self._settled(done)

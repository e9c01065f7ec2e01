"""What is asked of vsnapfs, and what was measured: our figure held against another's, row by row."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks import table
from benchmarks.samples import Samples, paired_ratio

HEADS = ("", "ours", "beside", "theirs", "ratio", "asked")


class Claims:
    """The rows of one table. What cannot be measured here has a line below it that says why."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._rows: list[list[str]] = []
        self._absent: list[str] = []
        self._taken: list[Samples] = []

    def rate(
        self, what: str, taken: Mapping[str, Samples], ours: str, other: str, *, unit: str = "/s", asked: float | None
    ) -> None:
        """A row of two rates that took turns. asked: the least ratio; None: none. Both have to be among ``taken``."""
        mine, theirs = taken[ours], taken[other]
        shown = [f"{table.count(samples.median)}{unit}" for samples in (mine, theirs)]
        least = "" if asked is None else f">= {asked:g}"
        self._rows.append([what, shown[0], other, shown[1], f"{paired_ratio(mine, theirs):.3g}", least])
        self._taken += [mine, theirs]

    def figure(self, what: str, shown: str, asked: str = "") -> None:
        """A row of a figure of our own."""
        self._rows.append([what, shown, "", "", "", asked])

    def absent(self, what: str, why: str) -> None:
        """A row that is not there."""
        self._absent.append(f"not measured: {what}: {why}")

    def show(self, caption: str) -> None:
        spread = f"; {table.spread(self._taken)}" if self._taken else ""
        table.show(self._title, HEADS, self._rows, "\n".join([f"{caption}{spread}", *self._absent]))

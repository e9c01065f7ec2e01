"""Runs and their medians."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import NamedTuple

Measure = Callable[[], float]


class Samples(NamedTuple):
    """What the runs of one candidate gave."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def spread(self) -> float:
        """Largest minus smallest, over the median."""
        return (max(self.values) - min(self.values)) / self.median


def rate_of(run: Callable[[], None], total_bytes: int) -> Measure:
    """Bytes a second, of what handles so many."""

    def measured() -> float:
        start_s = time.perf_counter()
        run()
        return total_bytes / (time.perf_counter() - start_s)

    return measured


def paired_ratio(samples: Samples, reference: Samples) -> float:
    """The median of the rounds' ratios: of two that took turns, whatever else the machine did meanwhile met both."""
    return median(mine / other for mine, other in zip(samples.values, reference.values, strict=True))


def take_turns(candidates: Mapping[str, Measure], runs: int) -> dict[str, Samples]:
    """Measure each candidate ``runs`` times, all of them in every round."""
    values: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(runs):
        for name, measure in candidates.items():
            values[name].append(measure())
    return {name: Samples(tuple(taken)) for name, taken in values.items()}

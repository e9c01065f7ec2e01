"""Figures as people read them, and the tables they stand in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.samples import Samples

WIDTH = 150
"""Of the output when it is no terminal."""


def count(value: float) -> str:
    """A figure with three digits: 987, 12.3k, 4.56M."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:#.3g}".rstrip(".") + unit
    return f"{value:.3g}"


def millis(seconds: float) -> str:
    return f"{seconds * 1e3:.0f} ms" if seconds >= 0.1 else f"{seconds * 1e3:.3g} ms"


def mebibytes(amount_bytes: float) -> str:
    return f"{amount_bytes / 2**20:.1f} MiB"


def percent(part: float) -> str:
    return f"{part * 100:.2f} %"


def ratio(samples: Samples, reference: Samples) -> str:
    return f"{samples.median / reference.median:.3g}"


def spread(samples: Iterable[Samples]) -> str:
    """A caption that says how far the runs lay apart."""
    widest = max(each.spread for each in samples)
    return f"widest spread of the runs: {widest * 100:.0f} % of the median"


def show(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]], caption: str) -> None:
    """Print one table; the first column is the name. caption: what to know of it, below."""
    table = Table(title=title, title_justify="left")
    for number, head in enumerate(heads):
        table.add_column(head, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    console.print(table)
    console.print(caption, highlight=False, markup=False)
    console.print()

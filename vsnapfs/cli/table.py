"""Tables and moments for people: drawn by rich on a terminal, plain aligned columns elsewhere, for grep and awk."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Lines of a table. Whatever could disturb a terminal in a cell is escaped."""
    cells = [[printable(cell) for cell in row] for row in rows]
    return iter(_drawn(heads, cells)) if sys.stdout.isatty() else _plain(heads, cells)


def printable(text: str) -> str:
    """The text without control characters, which a path may have."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def moment(time_text: str) -> str:
    """``2026-11-23T10:15:00.500Z``: milliseconds are enough to read."""
    return f"{time_text[:-7]}Z"


def _plain(heads: Sequence[str], rows: list[list[str]]) -> Iterator[str]:
    widths = [max(len(line[column]) for line in [heads, *rows]) for column in range(len(heads))]
    for line in [heads, *rows]:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


def _drawn(heads: Sequence[str], rows: list[list[str]]) -> list[str]:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        drawn.add_column(head, overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(cell) for cell in row))
    console = Console()
    with console.capture() as capture:
        console.print(drawn)
    return capture.get().splitlines()

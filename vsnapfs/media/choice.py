"""Which tape is written to next: pure, over what the catalog knows of tapes.

Source: docs/tape.md, section on the next tape.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from vsnapfs.core.tapes import TapeEntry
from vsnapfs.core.times import parse_iso

_COUNTER = re.compile(r"%0?[0-9]*d")


def appendable(known: Sequence[TapeEntry], *, fresh: bool) -> list[TapeEntry]:
    """Those that may be appended to, the one written to last first. fresh: only those that hold nothing."""
    fitting = [tape for tape in known if tape.state == "open" and not tape.protected and not (fresh and tape.files > 1)]
    return sorted(fitting, key=lambda tape: (tape.written_ns or 0, tape.made, tape.label), reverse=True)


def reusable(known: Sequence[TapeEntry], now_ns: int, retention_ns: int) -> list[TapeEntry]:
    """Those on which nothing counts and that were kept for long enough, the oldest first."""
    fitting = [
        tape
        for tape in known
        if tape.state == "retired" and not tape.protected and written_ns(tape) + retention_ns <= now_ns
    ]
    return sorted(fitting, key=lambda tape: (written_ns(tape), tape.label))


def written_ns(tape: TapeEntry) -> int:
    """When something was written to it last: a piece, or its label."""
    return parse_iso(tape.made) if tape.written_ns is None else tape.written_ns


def next_label(pattern: str, taken: Iterable[str]) -> str:
    """The label behind the last one of the pattern. pattern: with one number such as ``%05d``."""
    before, after = _COUNTER.split(pattern)
    shape = re.compile(f"{re.escape(before)}([0-9]+){re.escape(after)}")
    numbers = [int(match[1]) for label in taken if (match := shape.fullmatch(label)) is not None]
    return pattern % (max(numbers, default=0) + 1)

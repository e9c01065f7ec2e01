"""What is not as it was written: flaws of tapes, and the bytes of volumes that are lost by them.

A flaw is named also when it costs nothing, such as one in a header whose content is known from elsewhere.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

import msgspec

NO_INDEX = "the index behind this piece is missing"
UNSURE = "no index says whether these bytes are right, and the digest does not, or could not be compared"


class Flaw(msgspec.Struct, frozen=True, kw_only=True):
    """A place of a tape that is not as it was written. ``file`` -1: the tape as a whole."""

    tape: str
    file: int
    offset_bytes: int = 0
    length_bytes: int = 0
    """0: it is not known how many, or all of the file."""
    why: str

    def line(self) -> str:
        """For people."""
        place = f"tape {self.tape}" if self.file < 0 else f"tape {self.tape}, file {self.file}"
        if self.length_bytes:
            place += f", bytes {self.offset_bytes} to {self.offset_bytes + self.length_bytes}"
        return f"{place}: {self.why}"


class Lost(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of a volume that a recall could not give back as they were, and where on tape they should have been."""

    volume: str
    offset_bytes: int
    length_bytes: int
    tape: str
    file: int
    why: str
    zeros: bool = True
    """They are zeros now; false: they are what was found, and nothing says whether that is right."""

    @property
    def end_bytes(self) -> int:
        return self.offset_bytes + self.length_bytes

    def line(self) -> str:
        """For people."""
        now = "" if self.zeros else ", kept as they were found"
        bytes_ = f"bytes {self.offset_bytes} to {self.end_bytes} of volume {self.volume}"
        return f"{bytes_}{now}: tape {self.tape}, file {self.file}: {self.why}"


class Filled(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of a volume that were lost, and that another copy had."""

    volume: str
    offset_bytes: int
    length_bytes: int
    archive: str
    """uuid of the last one of that chain."""
    tapes: tuple[str, ...]
    """Labels of those of that chain."""

    def line(self) -> str:
        """For people."""
        end = self.offset_bytes + self.length_bytes
        place = f"archive {self.archive[:8]} on {' '.join(self.tapes)}"
        return f"bytes {self.offset_bytes} to {end} of volume {self.volume}: {place}"


class Damage:
    """All that was met on the way. Later archives of a chain may give again what an older one has lost.

    Concurrency: one thread.
    """

    def __init__(self, flaws: Iterable[Flaw] = (), lost: Iterable[Lost] = ()) -> None:
        self._flaws: dict[Flaw, None] = dict.fromkeys(flaws)
        self._files = {(flaw.tape, flaw.file) for flaw in self._flaws}
        self._lost: dict[str, list[Lost]] = {}
        """By volume, in order; none overlaps another one."""
        for one in lost:
            self.lose(one)

    def __bool__(self) -> bool:
        return bool(self._flaws or any(self._lost.values()))

    @property
    def flaws(self) -> list[Flaw]:
        """Each once, in the order in which they were met."""
        return list(self._flaws)

    def flaw(self, flaw: Flaw) -> None:
        self._flaws[flaw] = None
        self._files.add((flaw.tape, flaw.file))

    def is_flawed(self, tape: str, file: int) -> bool:
        """Something of that tape file was named."""
        return (tape, file) in self._files

    def lose(self, lost: Lost) -> None:
        """In place of what was said of these bytes before. More of the same right behind is one with it."""
        self.mend(lost.volume, lost.offset_bytes, lost.length_bytes)
        held = self._lost.setdefault(lost.volume, [])
        at = bisect_left(held, lost.offset_bytes, key=_offset)
        last = held[at - 1] if at else None
        if last is not None and last.end_bytes == lost.offset_bytes and _but_for_range(last) == _but_for_range(lost):
            held[at - 1] = msgspec.structs.replace(last, length_bytes=last.length_bytes + lost.length_bytes)
        else:
            held.insert(at, lost)

    def mend(self, volume: str, offset_bytes: int, length_bytes: int) -> None:
        """These bytes are known, whatever was lost of them before."""
        held = self._lost.get(volume)
        if not held:
            return
        end = offset_bytes + length_bytes
        first = bisect_right(held, offset_bytes, key=_end)
        last = bisect_left(held, end, lo=first, key=_offset)
        held[first:last] = [rest for lost in held[first:last] for rest in _without(lost, offset_bytes, end)]

    def lost(self, volume: str | None = None) -> list[Lost]:
        """Of one volume, or of all: by volume and offset."""
        if volume is not None:
            return list(self._lost.get(volume, []))
        return [lost for name in sorted(self._lost) for lost in self._lost[name]]


def _offset(lost: Lost) -> int:
    return lost.offset_bytes


def _end(lost: Lost) -> int:
    return lost.end_bytes


def _but_for_range(lost: Lost) -> Lost:
    return msgspec.structs.replace(lost, offset_bytes=0, length_bytes=0)


def _without(lost: Lost, start: int, end: int) -> Iterator[Lost]:
    """What of a loss is outside a range that it meets."""
    if lost.offset_bytes < start:
        yield msgspec.structs.replace(lost, length_bytes=start - lost.offset_bytes)
    if end < lost.end_bytes:
        yield msgspec.structs.replace(lost, offset_bytes=end, length_bytes=lost.end_bytes - end)

"""What is not as it was written: flaws of tapes, and the bytes of volumes that are lost by them.

A flaw is named also when it costs nothing, such as one in a header whose content is known from elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

NO_INDEX = "the index behind this piece is missing"


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


class Damage:
    """All that was met on the way. Later archives of a chain may give again what an older one has lost.

    Concurrency: one thread.
    """

    def __init__(self, flaws: list[Flaw] | None = None, lost: list[Lost] | None = None) -> None:
        self.flaws = list(flaws or [])
        self._lost = list(lost or [])

    def __bool__(self) -> bool:
        return bool(self.flaws or self._lost)

    def flaw(self, flaw: Flaw) -> None:
        if flaw not in self.flaws:
            self.flaws.append(flaw)

    def is_flawed(self, tape: str, file: int) -> bool:
        """Something of that tape file was named."""
        return any((flaw.tape, flaw.file) == (tape, file) for flaw in self.flaws)

    def lose(self, lost: Lost) -> None:
        """More of the same right behind is one with it."""
        last = self._lost[-1] if self._lost else None
        if last is not None and last.end_bytes == lost.offset_bytes and _but_for_range(last) == _but_for_range(lost):
            self._lost[-1] = msgspec.structs.replace(last, length_bytes=last.length_bytes + lost.length_bytes)
        else:
            self._lost.append(lost)

    def mend(self, volume: str, offset_bytes: int, length_bytes: int) -> None:
        """These bytes are known, whatever was lost of them before."""
        if any(lost.volume == volume for lost in self._lost):
            end = offset_bytes + length_bytes
            self._lost = [rest for lost in self._lost for rest in _without(lost, volume, offset_bytes, end)]

    def sure(self, volume: str) -> None:
        """All bytes of the volume that were kept as found are right, as its digest says."""
        self._lost = [lost for lost in self._lost if lost.volume != volume or lost.zeros]

    def lost(self, volume: str | None = None) -> list[Lost]:
        """Of one volume, or of all: by volume and offset."""
        found = (lost for lost in self._lost if volume in (None, lost.volume))
        return sorted(found, key=lambda lost: (lost.volume, lost.offset_bytes))


def _but_for_range(lost: Lost) -> Lost:
    return msgspec.structs.replace(lost, offset_bytes=0, length_bytes=0)


def _without(lost: Lost, volume: str, start: int, end: int) -> Iterator[Lost]:
    """What of a loss is outside a range."""
    if lost.volume != volume or lost.end_bytes <= start or end <= lost.offset_bytes:
        yield lost
        return
    if lost.offset_bytes < start:
        yield msgspec.structs.replace(lost, length_bytes=start - lost.offset_bytes)
    if end < lost.end_bytes:
        yield msgspec.structs.replace(lost, offset_bytes=end, length_bytes=lost.end_bytes - end)

"""Tapes in memory whose end nobody knows before it is met, as those of a drive."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vsnapfs.core.errors import NoSpaceError, NotFoundError, VsnapfsError
from vsnapfs.core.tapes import TapeEntry, TapeLabel
from vsnapfs.media.medium import Begun, TapeSeen
from vsnapfs.media.tape import EndOfTapeError, FileKind, TapeFile


class MemoryTape:
    """See media.tape.Tape."""

    capacity_bytes = None
    used_bytes = None
    read_only = False
    blank = False
    problem: VsnapfsError | None = None

    def __init__(self, label: TapeLabel, end_bytes: int) -> None:
        self.label: TapeLabel | None = label
        self.name = f"tape {label.label}"
        self.end_bytes = end_bytes
        self.contents = [b"label"]

    def require_unread(self) -> None:
        """Nobody else has it."""

    def write_label(self, label: TapeLabel) -> None:
        self.label = label
        self.contents = [b"label"]

    def files(self) -> Sequence[TapeFile] | None:
        return None

    def append(self, kind: FileKind, extension: str = "tar") -> MemoryWriter:
        return MemoryWriter(self)

    def cut(self, after: int) -> None:
        del self.contents[after + 1 :]

    def open(self, number: int) -> MemoryReader:
        if number >= len(self.contents):
            raise NotFoundError(f"no file {number}")
        return MemoryReader(self.contents[number])

    def close(self) -> None:
        pass


class MemoryWriter:
    def __init__(self, tape: MemoryTape) -> None:
        self._tape = tape
        self.content = bytearray()
        self.ended = False

    def write(self, block: bytes | bytearray | memoryview) -> None:
        if sum(map(len, self._tape.contents)) + len(self.content) + len(block) > self._tape.end_bytes:
            raise EndOfTapeError("the tape ends here")
        self.content += block

    def finish(self) -> int:
        self.ended = True
        self._tape.contents.append(bytes(self.content))
        return len(self._tape.contents) - 1

    def abandon(self) -> None:
        self.ended = True


class MemoryReader:
    def __init__(self, content: bytes) -> None:
        self._left = memoryview(content)

    def readinto(self, buffer: bytearray | memoryview) -> int:
        count = min(len(self._left), len(buffer))
        memoryview(buffer)[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def close(self) -> None:
        pass


class MemoryMedium:
    """See media.medium.Medium: new tapes, one after the other. end_bytes: of the tape of that number, from 0."""

    name = "memory"
    kind = "drive"

    def __init__(self, end_bytes: Callable[[int], int], count: int = 1000) -> None:
        self._end_bytes = end_bytes
        self._count = count
        self.loaded: list[MemoryTape] = []

    def tapes(self) -> list[TapeSeen]:
        return []

    def foreign(self) -> list[str]:
        return []

    def load(self, label: str, *, write: bool = False) -> MemoryTape:
        return next(tape for tape in self.loaded if tape.label is not None and tape.label.label == label)

    def load_blank(self, label: str) -> MemoryTape:
        raise NotFoundError(f"no blank tape {label}")  # all of them have labels

    def next(self, known: Sequence[TapeEntry], begun: Begun, *, fresh: bool = False) -> MemoryTape:
        for entry in known:
            if entry.state == "open" and not (fresh and entry.files > 1):
                tape = self.load(entry.label)
                tape.cut((len(tape.contents) - 1) // 2 * 2)  # behind its last index
                return tape
        number = len(self.loaded)
        if number == self._count:
            raise NoSpaceError("there is no other tape")
        label = TapeLabel(
            label=f"M{number}",
            uuid=f"uuid-{number}",
            medium="memory",
            block_bytes=512,
            made="2023-11-15T00:00:00.000000000Z",
        )
        begun(label)
        self.loaded.append(MemoryTape(label, self._end_bytes(number)))
        return self.loaded[-1]

    def close(self) -> None:
        pass

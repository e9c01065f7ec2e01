"""What the journal must mean, in plain Python: a list of records, replayed from the start for every question.

A volume is two byte arrays of its size: its bytes, and for each byte what the maps say of it (``Kind``). There is no extent, no
cache and no index in here, so that it can be believed by reading it. It is slow and meant for small volumes.

Rules it states (native/FORMAT.md section 2.2): the newest record wins; of a write, each 4 KiB block of the volume whose
covered bytes are all zeros counts as zeros, not as data; a resize makes the bytes between both sizes zeros; a base image
holds data in the 4 KiB blocks that are not all zeros.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum

BLOCK = 4096


class Kind(IntEnum):
    """What the maps say of a byte; the numbers are those of native/include/view.h."""

    HOLE = 0
    ZERO = 1
    DATA = 2


@dataclass(frozen=True)
class Add:
    """A volume begins, with the bytes of ``base`` (all of them, or none for an empty start)."""

    volume: int
    size_bytes: int
    base: bytes | None = None


@dataclass(frozen=True)
class Write:
    volume: int
    offset_bytes: int
    data: bytes


@dataclass(frozen=True)
class Zero:
    volume: int
    offset_bytes: int
    length_bytes: int


@dataclass(frozen=True)
class Resize:
    volume: int
    size_bytes: int


@dataclass(frozen=True)
class Remove:
    volume: int


@dataclass(frozen=True)
class Mark:
    """Any record that changes no volume: a bookmark made, removed, held, released."""

    text: str = ""


Record = Add | Write | Zero | Resize | Remove | Mark


@dataclass(frozen=True)
class Run:
    """Bytes [offset_bytes, offset_bytes + length_bytes) are of one kind."""

    offset_bytes: int
    length_bytes: int
    kind: Kind


@dataclass
class Image:
    """One volume in memory. ``last_write_seqno``: of its newest write, zero or resize, else of its beginning."""

    content: bytearray = field(default_factory=bytearray)
    kinds: bytearray = field(default_factory=bytearray)
    added_seqno: int = 0
    last_write_seqno: int = 0
    removed: bool = False

    @property
    def size_bytes(self) -> int:
        return len(self.content)

    @property
    def data_bytes(self) -> int:
        return self.kinds.count(Kind.DATA)

    def put(self, offset_bytes: int, data: bytes) -> None:
        """Write, block by block of the volume: zeros are told from data for each."""
        end = offset_bytes + len(data)
        self.content[offset_bytes:end] = data
        at = offset_bytes
        while at < end:
            stop = min(end, at - at % BLOCK + BLOCK)
            piece = data[at - offset_bytes : stop - offset_bytes]
            kind = Kind.ZERO if piece.count(0) == len(piece) else Kind.DATA
            self.kinds[at:stop] = bytes([kind]) * (stop - at)
            at = stop

    def zero(self, offset_bytes: int, length_bytes: int) -> None:
        self.content[offset_bytes : offset_bytes + length_bytes] = bytes(length_bytes)
        self.kinds[offset_bytes : offset_bytes + length_bytes] = bytes([Kind.ZERO]) * length_bytes

    def resize(self, size_bytes: int) -> None:
        old = self.size_bytes
        if size_bytes < old:
            del self.content[size_bytes:]
            del self.kinds[size_bytes:]
        else:
            self.content.extend(bytes(size_bytes - old))
            self.kinds.extend(bytes([Kind.ZERO]) * (size_bytes - old))

    def runs(self, *, keep_zeros: bool = False) -> list[Run]:
        """The whole volume as runs, each as long as it can be; holes and zeros are one kind (HOLE) unless keep_zeros."""
        kinds = bytes(self.kinds)
        if not keep_zeros:
            kinds = kinds.replace(bytes([Kind.ZERO]), bytes([Kind.HOLE]))
        pieces = re.finditer(rb"\x00+|\x01+|\x02+", kinds)
        return [Run(p.start(), p.end() - p.start(), Kind(kinds[p.start()])) for p in pieces]

    def seek_data(self, offset_bytes: int) -> int | None:
        """Where lseek(SEEK_DATA) goes; None for ENXIO."""
        at = self.kinds.find(bytes([Kind.DATA]), offset_bytes)
        return None if at < 0 else at

    def seek_hole(self, offset_bytes: int) -> int | None:
        """Where lseek(SEEK_HOLE) goes: the end of the volume is a hole; None for ENXIO."""
        if offset_bytes >= self.size_bytes:
            return None
        found = re.compile(rb"[^\x02]").search(self.kinds, offset_bytes)
        return found.start() if found else self.size_bytes


State = dict[int, Image]


def begin(seqno: int, record: Add) -> Image:
    """A volume as it begins: holes, or the data of its base."""
    image = Image(bytearray(record.size_bytes), bytearray(record.size_bytes), seqno, seqno)
    if record.base is not None:
        image.put(0, record.base)
        image.kinds = image.kinds.replace(bytes([Kind.ZERO]), bytes([Kind.HOLE]))
    return image


def change(image: Image, seqno: int, record: Write | Zero | Resize) -> None:
    """Take a record that changes bytes into its volume, in place."""
    match record:
        case Write(_, offset_bytes, data):
            image.put(offset_bytes, data)
        case Zero(_, offset_bytes, length_bytes):
            image.zero(offset_bytes, length_bytes)
        case Resize(_, size_bytes):
            image.resize(size_bytes)
    image.last_write_seqno = seqno


def apply(state: State, seqno: int, record: Record) -> None:
    """Take one record into a state, in place."""
    match record:
        case Add():
            state[record.volume] = begin(seqno, record)
        case Remove():
            state[record.volume].removed = True
        case Mark():
            pass
        case _:
            change(state[record.volume], seqno, record)


class History:
    """All records; ``records[i]`` has seqno i + 1."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self.records: list[Record] = list(records)

    @property
    def last_seqno(self) -> int:
        return len(self.records)

    def append(self, record: Record) -> int:
        """Add a record; returns its seqno."""
        self.records.append(record)
        return len(self.records)

    def state(self, seqno: int) -> State:
        """All volumes after record ``seqno``."""
        state: State = {}
        for number, record in enumerate(self.records[:seqno], start=1):
            apply(state, number, record)
        return state

    def states(self, seqnos: Iterable[int]) -> Iterator[tuple[int, State]]:
        """The states after each of some seqnos, in ascending order, in one pass.

        The state handed out is the same object each time, moved on: look at it before asking for the next.
        """
        state: State = {}
        done = 0
        for seqno in sorted(set(seqnos)):
            for number in range(done, seqno):
                apply(state, number + 1, self.records[number])
            done = seqno
            yield seqno, state

    def changes(self, volume: int, since: int, until: int) -> Image:
        """What the records with since < seqno <= until put into a volume: HOLE for bytes they left alone."""
        before = self.state(since).get(volume)
        size_bytes = before.size_bytes if before else 0
        image = Image(bytearray(size_bytes), bytearray(size_bytes))
        for number in range(since, until):
            record = self.records[number]
            if isinstance(record, Add) and record.volume == volume:
                image = Image(bytearray(record.size_bytes), bytearray(record.size_bytes))
            elif isinstance(record, Write | Zero | Resize) and record.volume == volume:
                change(image, number + 1, record)
        return image

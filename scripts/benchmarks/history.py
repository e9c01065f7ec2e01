"""A long history, made straight through the journal: 4 KiB writes, and bookmarks evenly among them.

Nothing is mounted and there is no primary, so that 10^7 records take minutes and not hours. The same seed gives the
same history.
"""

from __future__ import annotations

import json
import os
import random
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from vsnapfs import Repository
from vsnapfs.binding import Journal, RecordKind, Store

BLOCK = 4096
VOLUME = "volume"
VOLUME_ID = 1
LONG_VOLUME_BYTES = 64 << 30
POOL_BYTES = 8 << 20
TRAILER_MAGIC = b"VSNAPEND"
DATA_END = slice(64, 72)
"""In a trailer; native/FORMAT.md section 2.4."""


def bookmark(number: int) -> str:
    """The name of a bookmark of a history, from 1."""
    return f"mark-{number:07d}"


class Extent(NamedTuple):
    """How much history there is."""

    records: int
    bookmarks: int


class Sizes(NamedTuple):
    """What the files of a history take."""

    segments: int
    payload_bytes: int
    index_bytes: int
    """Footers of segments, merged maps, catalog: what makes opening quick."""
    framing_bytes: int
    """Headers and descriptors of the journal: what makes it a journal."""


def anywhere(volume_bytes: int) -> Iterator[int]:
    """Places of writes: any block, any number of times. Offsets in bytes."""
    dice = random.Random(3)
    while True:
        yield dice.randrange(volume_bytes // BLOCK) * BLOCK


def each_once(volume_bytes: int, blocks: int) -> Iterator[int]:
    """Places of writes: so many blocks of the volume, evenly apart, each once and in no order: an extent each."""
    every_bytes = volume_bytes // blocks // BLOCK * BLOCK
    places = [number * every_bytes for number in range(blocks)]
    random.Random(3).shuffle(places)
    return iter(places)


class History:
    """A repository that grows. ``path`` does not exist yet. ``places``: where the writes go, in their order."""

    def __init__(self, path: Path, volume_bytes: int, places: Iterator[int]) -> None:
        self.path = path
        self.extent = Extent(0, 0)
        self._places = places
        self._dice = random.Random(5)
        self._pool = memoryview(self._dice.randbytes(POOL_BYTES))
        Repository.create(path)
        with self._journal() as journal:
            body = {"name": VOLUME, "primary": "none", "base": False}
            journal.event(RecordKind.VOLUME_ADD, a=512, b=volume_bytes, body=json.dumps(body).encode())

    def grow(self, until: Extent) -> None:
        """Append writes and bookmarks until there are so many; make all maps, and the catalog as a server would."""
        with self._journal() as journal:
            for number in range(self.extent.records, until.records):
                self._write(journal)
                while (self.extent.bookmarks + 1) * until.records <= (number + 1) * until.bookmarks:
                    self._mark(journal)
            while journal.merge_maps():
                pass
        self.extent = Extent(until.records, self.extent.bookmarks)
        Repository.open(self.path, owner=True).close()

    def sizes(self) -> Sizes:
        """What is on disk now."""
        segments = [(file.stat().st_size, _data_end(file)) for file in (self.path / "journal").glob("*.seg")]
        footers_bytes = sum(size_bytes - end_bytes for size_bytes, end_bytes in segments)
        derived = [*(self.path / "maps").iterdir(), *self.path.glob("catalog.db*")]
        payload_bytes = self.extent.records * BLOCK
        return Sizes(
            segments=len(segments),
            payload_bytes=payload_bytes,
            index_bytes=footers_bytes + sum(file.stat().st_size for file in derived),
            framing_bytes=sum(end_bytes for _, end_bytes in segments) - payload_bytes,
        )

    def _write(self, journal: Journal) -> None:
        at = self._dice.randrange(POOL_BYTES // BLOCK) * BLOCK
        journal.write(VOLUME_ID, next(self._places), self._pool[at : at + BLOCK])

    def _mark(self, journal: Journal) -> None:
        number = self.extent.bookmarks + 1
        body = {"name": bookmark(number), "consistency": "crash", "application": "", "note": ""}
        journal.event(RecordKind.BOOKMARK_ADD, body=json.dumps(body).encode())
        self.extent = self.extent._replace(bookmarks=number)

    @contextmanager
    def _journal(self) -> Iterator[Journal]:
        identity = uuid.UUID(json.loads((self.path / "repository.json").read_text())["uuid"])
        directory_fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with Store(directory_fd) as store, Journal(store, identity.bytes, owner=True) as journal:
                yield journal
        finally:
            os.close(directory_fd)


def _data_end(segment: Path) -> int:
    """Where the batches of a segment end; the whole file if it is not sealed."""
    size_bytes = segment.stat().st_size
    with segment.open("rb") as file:
        file.seek(max(0, size_bytes - BLOCK))
        trailer = file.read(BLOCK)
    return int.from_bytes(trailer[DATA_END], "little") if trailer.startswith(TRAILER_MAGIC) else size_bytes

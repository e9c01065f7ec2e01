"""What an archive is, read from its stream itself: for archives whose indexes cannot be read.

Every length is one of a tape that nobody has compared with anything: what is kept in memory is bounded by what the tape really has, and
texts by what any of ours could be.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from vsnapfs.archive.extents import Extents
from vsnapfs.archive.manifest import MANIFEST, SUMS, Manifest, decode_manifest
from vsnapfs.archive.reading import INDEX_BYTES_MAX, Run
from vsnapfs.archive.stream import EXTENTS, JSON, Changes, VolumeMap
from vsnapfs.archive.tar import Continuation, MemberHead, padded, read_head
from vsnapfs.core.documents import from_json
from vsnapfs.core.errors import IntegrityError

MANIFEST_BYTES_MAX = 16 << 20


class Walked(NamedTuple):
    """All that the heads of a stream say."""

    manifest: Manifest
    maps: dict[str, VolumeMap]


class Reader:
    """Runs of a stream as bytes to read and to pass over, in order."""

    def __init__(self, runs: Iterator[Run]) -> None:
        self._runs = runs
        self._left: memoryview = memoryview(b"")
        self._lost_bytes = 0
        """Of the run under way, if it has no content."""
        self._open_end = False
        self.taken_bytes = 0

    def read(self, length_bytes: int) -> bytes:
        """Raises: IntegrityError: some of it is lost, or the stream ends before."""
        found = bytearray()
        while len(found) < length_bytes:
            if self._lost_bytes or self._open_end:
                raise IntegrityError("what stands before the data of an archive is lost")
            if not self._left:
                self._next()
                continue
            taken = self._left[: length_bytes - len(found)]
            found += taken
            self._left = self._left[len(taken) :]
        self.taken_bytes += length_bytes
        return bytes(found)

    def skip(self, length_bytes: int) -> None:
        """Raises: IntegrityError: the stream ends before."""
        for _ in self.runs(length_bytes):
            pass

    def runs(self, length_bytes: int) -> Iterator[Run]:
        """So many bytes as they come, those that are lost too; by offset from here. Raises: IntegrityError: the stream ends before."""
        done = 0
        while done < length_bytes:
            if not self._left and not self._lost_bytes:
                self._next()
                continue
            taken = min(length_bytes - done, len(self._left) or self._lost_bytes)
            yield Run(done, taken, self._left[:taken] if self._left else None)
            self._left, self._lost_bytes = self._left[taken:], self._lost_bytes - (0 if self._left else taken)
            done += taken
        self.taken_bytes += done

    def _next(self) -> None:
        run = next(self._runs, None)
        if run is None or self._open_end:
            raise IntegrityError("an archive ends too early")
        self._open_end = run.content is None and not run.length_bytes
        self._lost_bytes = 0 if run.content is not None else run.length_bytes
        self._left = memoryview(b"") if run.content is None else run.content


def manifest_at_start(runs: Iterator[Run]) -> Manifest:
    """Of a stream's first bytes. Raises: IntegrityError: they are something else. FormatUnknownError: of a newer version."""
    return read_manifest(Reader(runs))


def walk(runs: Iterator[Run]) -> Walked:
    """All heads of a stream, from its first byte on. Raises: as above."""
    reader = Reader(runs)
    manifest = read_manifest(reader)
    maps: dict[str, VolumeMap] = {}
    while True:
        head = read_head(reader.read)
        if not isinstance(head, MemberHead):
            raise IntegrityError("a stream goes on with a member that it has not begun, or ends before its digests")
        name = head.name.removeprefix(f"{manifest.name}/")
        if name == SUMS and head.map is None:  # a volume may have that name
            return Walked(manifest, maps)
        if head.map is not None:
            maps[name] = VolumeMap(head.map, Extents())
        elif name.endswith(JSON):
            maps[name.removesuffix(JSON)] = changes_map(read_text(reader, head, INDEX_BYTES_MAX))
            continue
        elif not name.endswith(EXTENTS):
            raise IntegrityError(f"{name[:80]!r} is no member of an archive of ours")
        reader.skip(padded(head.stored_bytes))


def looked_at(runs: Iterator[Run]) -> tuple[MemberHead | Continuation | None, int, Iterator[Run]]:
    """What a piece begins with, how long that is, and all of the piece again. Raises: IntegrityError: nothing that can be understood."""
    first = list(itertools.islice(runs, 1))
    reader = Reader(iter(first))
    head = read_head(reader.read)
    return head, reader.taken_bytes, itertools.chain(first, runs)


def changes_map(content: bytes) -> VolumeMap:
    """The runs of ``VOLUME.json``. Raises: IntegrityError: it is none, or contradicts itself."""
    try:
        changes = from_json(content, Changes)
        found = VolumeMap(Extents(), Extents())
        for offset_bytes, length_bytes, zero in changes.extents:
            if offset_bytes < 0 or offset_bytes + length_bytes > changes.size_bytes:
                raise ValueError(f"{length_bytes} bytes at {offset_bytes} of {changes.size_bytes}")
            (found.zeros if zero else found.data).add(offset_bytes, length_bytes)
    except (msgspec.DecodeError, ValueError, OverflowError) as error:
        raise IntegrityError(f"the list of what changed of a volume cannot be read: {error}") from error
    return found


def read_manifest(reader: Reader) -> Manifest:
    """The first member of a stream. Raises: as ``manifest_at_start``."""
    head = read_head(reader.read)
    if not isinstance(head, MemberHead) or not head.name.endswith(f"/{MANIFEST}"):
        raise IntegrityError("no archive begins here")
    return decode_manifest(read_text(reader, head, MANIFEST_BYTES_MAX))


def read_text(reader: Reader, head: MemberHead, most_bytes: int) -> bytes:
    """The data of a member that is kept in memory. Raises: IntegrityError: it is longer than any of ours, or lost, or ends before."""
    if head.stored_bytes > most_bytes:
        raise IntegrityError(f"{head.name[:80]!r} of {head.stored_bytes} bytes is none of ours")
    content = reader.read(head.stored_bytes)
    reader.skip(padded(head.stored_bytes) - head.stored_bytes)
    return content

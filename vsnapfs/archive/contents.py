"""What an archive holds and where each byte of its stream belongs, known without its data: its stream again, over what was made of it.

Source: docs/tape-format.md, section on the stream.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import NamedTuple

from vsnapfs.archive.ahead import ahead
from vsnapfs.archive.extents import Span
from vsnapfs.archive.index import PieceIndex, decode_maps
from vsnapfs.archive.manifest import Manifest, ManifestVolume
from vsnapfs.archive.stream import JSON, READ_BYTES, Member, VolumeMap
from vsnapfs.archive.sums import SummedStream
from vsnapfs.archive.tar import SIZE_MAX
from vsnapfs.core.errors import IntegrityError, UsageError
from vsnapfs.core.names import check_name

ReadInto = Callable[[str, int, memoryview], None]
"""Fill a buffer with what a volume, by its name, has now from an offset on."""


class Part(NamedTuple):
    """Bytes of the stream that belong to one member. volume: whose data they are; None: of heads, texts and padding."""

    member: Member
    volume: str | None
    at: int
    """In the bytes that were asked about."""
    length_bytes: int
    inside: int
    """In the member's data."""


class MadeSource:
    """A volume as an archive has it, read from what a recall has made. See source.Source."""

    def __init__(self, described: ManifestVolume, found: VolumeMap, readinto: ReadInto, *, changes: bool) -> None:
        self.name = described.name
        self.id = described.id
        self.size_bytes = described.size_bytes
        self.block_bytes = described.block_bytes
        self.mtime_ns = described.mtime_ns
        self.changes = changes
        self._map = found
        self._readinto = readinto

    def runs(self) -> Iterator[Span]:
        data = (Span(*run) for run in self._map.data)
        zeros = (Span(*run, zero=True) for run in self._map.zeros)
        return heapq.merge(data, zeros)

    def readinto(self, offset_bytes: int, buffer: memoryview) -> None:
        self._readinto(self.name, offset_bytes, buffer)


class Contents:
    """One archive. Concurrency: one thread."""

    def __init__(self, manifest: Manifest, maps: dict[str, VolumeMap], readinto: ReadInto) -> None:
        """readinto: see ``digest``. Raises: IntegrityError: manifest and maps are not of one archive."""
        self._is_full = manifest.kind == "full"
        require_sane(manifest)
        try:
            self.sources = [
                MadeSource(volume, maps[volume.name], readinto, changes=not self._is_full)
                for volume in manifest.volumes
            ]
        except KeyError as error:
            raise IntegrityError(f"the map of volume {error} is missing") from error
        for source in self.sources:
            _require_within(source.name, maps[source.name], source.size_bytes)
        try:
            self.stream = SummedStream(manifest, list(self.sources))
        except (ValueError, OverflowError) as error:  # what no header can say
            raise IntegrityError(f"the manifest of an archive cannot be one: {error}") from error
        self.maps = maps
        if self.stream.manifest != manifest:
            raise IntegrityError("the manifest of an archive speaks of other maps than it has")

    @classmethod
    def of_index(cls, index: PieceIndex, readinto: ReadInto) -> Contents:
        """By an index that has maps. Raises: as above."""
        found = cls(index.manifest, decode_maps(index.maps or {}), readinto)
        if found.stream.layout != index.layout:
            raise IntegrityError("the maps of an index are not those of its archive")
        return found

    @property
    def manifest(self) -> Manifest:
        return self.stream.manifest

    @property
    def length_bytes(self) -> int:
        return self.stream.length_bytes

    def parts(self, offset_bytes: int, length_bytes: int) -> Iterator[Part]:
        """What [offset, + length) of the stream is, in order."""
        end = min(offset_bytes + length_bytes, self.length_bytes)
        at = offset_bytes
        while at < end:
            member = self.stream.members[self.stream.member_at(at)]
            bounds = (member.data_offset, member.data_offset + member.data_bytes, member.end_bytes, end)
            until = next(bound for bound in bounds if bound > at)
            inside = at - member.data_offset
            is_data = 0 <= inside < member.data_bytes
            volume = member.source.name if is_data and member.source is not None else None
            yield Part(member, volume, at - offset_bytes, min(until, end) - at, inside)
            at = min(until, end)

    def head_bytes(self, offset_bytes: int, number: int) -> int:
        """How long the headers are that a piece begins with which begins there."""
        return len(self.stream.cut(offset_bytes, number, 1).head) if 0 < offset_bytes < self.length_bytes else 0

    def offset_of(self, name: str, left_bytes: int) -> int:
        """Where in the stream so many bytes of a member's data are left. Raises: IntegrityError: nowhere."""
        for member in self.stream.members:
            if member.name == name and 0 < left_bytes <= member.data_bytes:
                return member.data_offset + member.data_bytes - left_bytes
        raise IntegrityError(f"a piece goes on with {name[:80]!r}, which the archive does not have")

    def offset_of_member(self, name: str) -> int:
        """Where a member begins. Raises: IntegrityError."""
        for member in self.stream.members:
            if member.name == name:
                return member.offset_bytes
        raise IntegrityError(f"a piece begins with {name[:80]!r}, which the archive does not have")

    def digests(self, volume: str) -> Iterator[tuple[str, str]]:
        """Names, as SHA256SUMS has them, and digests of a volume's members, read from what was made of it. Raises: as reading does."""
        changes = None if self._is_full else f"{self.manifest.name}/{volume}{JSON}"
        for member in self.stream.members:
            if member.name == changes or (member.source is not None and member.source.name == volume):
                with closing(ahead(self._read(member))) as parts:
                    for offset_bytes, content in parts:
                        self.stream.take(offset_bytes, content)
                name = self.stream.short_name(member)
                yield name, self.stream.known[name]

    def read_of(self, volume: str) -> Iterable[tuple[int, int]]:
        """The runs of a volume that its digests say something of: of an incremental archive those that it has."""
        size_bytes = next(source.size_bytes for source in self.sources if source.name == volume)
        return [(0, size_bytes)] if self._is_full else self.maps[volume].data

    def _read(self, member: Member) -> Iterator[tuple[int, memoryview]]:
        """All of a member, by offset in the stream, in memory of its own."""
        for at in range(member.offset_bytes, member.end_bytes, READ_BYTES):
            content = memoryview(bytearray(min(READ_BYTES, member.end_bytes - at)))
            self.stream.fill(at, content)
            yield at, content


def require_sane(manifest: Manifest) -> None:
    """Raises: IntegrityError: names that no volume has, one twice, or a size or time that none has."""
    try:
        for volume in manifest.volumes:
            check_name(volume.name, "volume")
    except UsageError as error:
        raise IntegrityError(f"the manifest of an archive cannot be one: {error.message}") from error
    if len({volume.name for volume in manifest.volumes}) != len(manifest.volumes):
        raise IntegrityError("the manifest of an archive names a volume twice")
    numbers = [number for volume in manifest.volumes for number in (volume.size_bytes, volume.mtime_ns)]
    if not all(0 <= number <= SIZE_MAX for number in [*numbers, manifest.point.time_ns]):
        raise IntegrityError("the manifest of an archive speaks of a size or a time that nothing has")


def _require_within(name: str, found: VolumeMap, size_bytes: int) -> None:
    if max(found.data.end_bytes, found.zeros.end_bytes) > size_bytes:
        raise IntegrityError(f"the map of volume {name} goes past its end")

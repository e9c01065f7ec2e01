"""The stream of an archive: where each byte of it comes from, where it may be cut, and any run of it, again and again.

Maps are read when it is made, data when they are asked for. Everything but the digests at its end is known before the first byte
of a volume is read, and so is the length.

Source: docs/tape-format.md, sections on the stream and on cuts.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import msgspec

from vsnapfs.archive.extents import Extents
from vsnapfs.archive.manifest import MANIFEST, SUMS, Manifest, ManifestVolume, encode_manifest
from vsnapfs.archive.source import Source
from vsnapfs.archive.tar import (
    END,
    UNIT_BYTES,
    Continuation,
    continuation_head,
    padded,
    plain_head,
    sparse_head,
    sums_bytes,
)
from vsnapfs.core.times import NS_PER_S

JSON = ".json"
EXTENTS = ".extents"
READ_BYTES = 1 << 20


class Cut(NamedTuple):
    """A piece of the stream, and what it begins with."""

    offset_bytes: int
    length_bytes: int
    member: str | None
    """That it goes on with; None: it begins between two."""
    head: bytes
    """A continuation's headers, which are no bytes of the stream; b"": it begins between two members."""


class VolumeMap(NamedTuple):
    """The runs of a volume that an archive has."""

    data: Extents
    """Those that are stored, one after the other."""
    zeros: Extents
    """Of an incremental archive: those that became zeros."""


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """``VOLUME.json`` of an incremental archive: what changed, as it shall be done in order."""

    volume: str
    size_bytes: int
    changed_bytes: int
    extents: list[tuple[int, int, int]]
    """Offset and length in bytes; 1: zeros, 0: its bytes are in ``VOLUME.extents``."""


class Member:
    """One file of the stream. ``text``: its bytes; None: those of ``source``, by ``extents``, or the digests."""

    def __init__(
        self,
        name: str,
        head: bytes,
        data_bytes: int,
        *,
        text: bytes | None = None,
        source: Source | None = None,
        extents: Extents | None = None,
        real_bytes: int | None = None,
    ) -> None:
        self.name = name
        self.head = head
        self.data_bytes = data_bytes
        self.text = text
        self.source = source
        self.extents = extents if extents is not None else Extents()
        self.real_bytes = data_bytes if real_bytes is None else real_bytes
        """As it is extracted."""
        self.sparse = real_bytes is not None
        self.offset_bytes = 0
        """In the stream."""

    @property
    def data_offset(self) -> int:
        return self.offset_bytes + len(self.head)

    @property
    def end_bytes(self) -> int:
        return self.data_offset + padded(self.data_bytes)


class Stream:
    """The stream of one archive.

    Args: manifest: without its volumes, which are made from ``sources``, in the same order. sums: asked for SHA256SUMS when that is to
    be read: it gets the names, in the order of the members, and returns the text.
    Concurrency: any thread may read, and several at once; ``sums`` is called in the thread that reads.
    """

    def __init__(self, manifest: Manifest, sources: Sequence[Source], sums: Callable[[], bytes]) -> None:
        self.maps: dict[str, VolumeMap] = {}
        self._sums = sums
        members = [member for source in sources for member in self._members_of(manifest, source)]
        described = (_described(source, self.maps[source.name]) for source in sources)
        self.manifest = msgspec.structs.replace(manifest, volumes=tuple(described))
        text = encode_manifest(self.manifest)
        time_s = manifest.point.time_ns // NS_PER_S
        first = _text(f"{manifest.name}/{MANIFEST}", text, time_s)
        self.members = [first, *members]
        names = [self.short_name(member) for member in self.members]
        last_bytes = sums_bytes(names)
        last_name = f"{manifest.name}/{SUMS}"
        self.members.append(Member(last_name, plain_head(last_name, last_bytes, time_s), last_bytes))
        at = 0
        for member in self.members:
            member.offset_bytes = at
            at = member.end_bytes
        self._starts = [member.offset_bytes for member in self.members]
        self.length_bytes = at + len(END)
        self.sums_offset = self.members[-1].offset_bytes
        """Where the member of the digests begins: nothing from here on can be read before all before it was."""

    @cached_property
    def layout(self) -> str:
        """SHA-256 of all headers, maps and texts but the digests: where it is the same, every byte has the same place."""
        digest = hashlib.sha256()
        for member in self.members:
            digest.update(member.head)
            digest.update(member.text or b"")
        return digest.hexdigest()

    def short_name(self, member: Member) -> str:
        """As SHA256SUMS has it: from within the directory."""
        return member.name.removeprefix(f"{self.manifest.name}/")

    def _members_of(self, manifest: Manifest, source: Source) -> Iterator[Member]:
        found = VolumeMap(Extents(), Extents())
        changed: list[tuple[int, int, int]] = []
        for span in source.runs():
            (found.zeros if span.zero else found.data).add(span.offset_bytes, span.length_bytes)
            if source.changes:
                changed.append((span.offset_bytes, span.length_bytes, int(span.zero)))
        self.maps[source.name] = found
        name, mtime_s = f"{manifest.name}/{source.name}", source.mtime_ns // NS_PER_S
        stored = found.data.stored_bytes
        if not source.changes:
            head = sparse_head(name, source.size_bytes, found.data, mtime_s)
            yield Member(name, head, stored, source=source, extents=found.data, real_bytes=source.size_bytes)
            return
        yield _text(name + JSON, _changes_text(source, found, changed), mtime_s)
        if stored:
            head = plain_head(name + EXTENTS, stored, mtime_s)
            yield Member(name + EXTENTS, head, stored, source=source, extents=found.data)

    def member_at(self, offset_bytes: int) -> int:
        """The number of the member that a byte of the stream belongs to; the end of the stream is the last one's."""
        return bisect_right(self._starts, offset_bytes) - 1

    def cut(self, offset_bytes: int, number: int, piece_bytes: int) -> Cut:
        """Piece ``number`` (from 0), which begins at an offset where a cut may be: as long as may be, up to piece_bytes.

        Where no cut may be before that, such as in a long map, it goes on to the first one behind.
        """
        end = self._cut_end(offset_bytes, offset_bytes + piece_bytes)
        member = self.members[self.member_at(offset_bytes)]
        if offset_bytes == member.offset_bytes:
            return Cut(offset_bytes, end - offset_bytes, None, b"")
        left = member.data_bytes - (offset_bytes - member.data_offset)
        continued = Continuation(member.name, left, member.real_bytes - left)
        head = continuation_head(continued, number, self.manifest.point.time_ns // NS_PER_S)
        return Cut(offset_bytes, end - offset_bytes, member.name, head)

    def cuts(self, piece_bytes: int) -> list[Cut]:
        """All pieces, if each gets that long."""
        found: list[Cut] = []
        at = 0
        while at < self.length_bytes:
            found.append(self.cut(at, len(found), piece_bytes))
            at += found[-1].length_bytes
        return found

    def may_be_cut(self, offset_bytes: int) -> bool:
        """Between two members, or at a whole unit within the data of a volume, behind its first unit."""
        return offset_bytes == self._cut_before(offset_bytes)

    def _cut_end(self, offset_bytes: int, wanted: int) -> int:
        """The last allowed end in (offset_bytes, wanted], or the first one behind."""
        if wanted >= self.length_bytes:
            return self.length_bytes
        before = self._cut_before(wanted)
        return before if before > offset_bytes else self._cut_behind(offset_bytes)

    def _cut_before(self, offset_bytes: int) -> int:
        """The last place at or before an offset where a cut may be."""
        member = self.members[self.member_at(offset_bytes)]
        inside = min(offset_bytes - member.data_offset, member.data_bytes - 1) // UNIT_BYTES * UNIT_BYTES
        return member.data_offset + inside if member.source is not None and inside > 0 else member.offset_bytes

    def _cut_behind(self, offset_bytes: int) -> int:
        """The first one behind a place where one may be."""
        member = self.members[self.member_at(offset_bytes)]
        inside = max(offset_bytes - member.data_offset, 0) + UNIT_BYTES
        if member.source is not None and inside < member.data_bytes:
            return member.data_offset + inside
        return member.end_bytes if member is not self.members[-1] else self.length_bytes

    def fill(self, offset_bytes: int, buffer: memoryview) -> None:
        """Fill a buffer with the stream from an offset on; it must end within the stream. Raises: as sources do."""
        done = 0
        while done < len(buffer):
            at = offset_bytes + done
            member = self.members[self.member_at(at)]
            if at >= member.end_bytes:  # the end of the archive
                buffer[done:] = END[: len(buffer) - done]
                return
            part = buffer[done : done + member.end_bytes - at]
            self._fill(member, at - member.offset_bytes, part)
            done += len(part)

    def _fill(self, member: Member, at: int, buffer: memoryview) -> None:
        """Of one member, from an offset in it on."""
        done = 0
        if at < len(member.head):
            taken = member.head[at : at + len(buffer)]
            buffer[: len(taken)] = taken
            done = len(taken)
        inside = at + done - len(member.head)
        stored = min(len(buffer) - done, member.data_bytes - inside)
        if stored > 0:
            self._fill_data(member, inside, buffer[done : done + stored])
            done += stored
        buffer[done:] = bytes(len(buffer) - done)

    def _fill_data(self, member: Member, at: int, buffer: memoryview) -> None:
        if member.source is None:
            text = member.text if member.text is not None else self._sums()
            buffer[:] = text[at : at + len(buffer)]
            return
        done = 0
        for offset_bytes, length_bytes in member.extents.places(at, len(buffer)):
            member.source.readinto(offset_bytes, buffer[done : done + length_bytes])
            done += length_bytes

    def read(self, offset_bytes: int, length_bytes: int) -> Iterator[memoryview]:
        """A run of the stream, in buffers of ``READ_BYTES`` at most, each of which is the next one's too."""
        buffer = memoryview(bytearray(max(min(READ_BYTES, length_bytes), 0)))
        for at in range(offset_bytes, offset_bytes + length_bytes, READ_BYTES):
            part = buffer[: min(READ_BYTES, offset_bytes + length_bytes - at)]
            self.fill(at, part)
            yield part


def _described(source: Source, found: VolumeMap) -> ManifestVolume:
    return ManifestVolume(
        name=source.name,
        id=source.id,
        size_bytes=source.size_bytes,
        block_bytes=source.block_bytes,
        stored_bytes=found.data.stored_bytes,
        changed_bytes=found.data.stored_bytes + found.zeros.stored_bytes,
        mtime_ns=source.mtime_ns,
    )


def _changes_text(source: Source, found: VolumeMap, changed: list[tuple[int, int, int]]) -> bytes:
    changes = Changes(
        volume=source.name,
        size_bytes=source.size_bytes,
        changed_bytes=found.data.stored_bytes + found.zeros.stored_bytes,
        extents=changed,
    )
    return msgspec.json.encode(changes) + b"\n"


def _text(name: str, text: bytes, mtime_s: int) -> Member:
    return Member(name, plain_head(name, len(text), mtime_s), len(text), text=text)

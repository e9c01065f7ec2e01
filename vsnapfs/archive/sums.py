"""Digests of the members of a stream, taken as it goes by: SHA-256 of each file as it is extracted, zeros included."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from vsnapfs.archive.manifest import Manifest
from vsnapfs.archive.source import Source
from vsnapfs.archive.stream import READ_BYTES, Member, Stream
from vsnapfs.archive.tar import sums_line

ZEROS = memoryview(bytes(READ_BYTES))


class SummedStream(Stream):
    """A stream that knows the digests of what was told to it, and reads again what was not.

    Concurrency: one thread calls ``take`` and ``catch_up``; ``known`` may be read by any when that is done.
    """

    def __init__(self, manifest: Manifest, sources: Sequence[Source], known: dict[str, str] | None = None) -> None:
        """known: digests by short name, of members that an earlier run has read."""
        super().__init__(manifest, sources, self.sums_text)
        self.known = dict(known or {})
        self._under_way: _Digest | None = None

    def sums_text(self) -> bytes:
        """SHA256SUMS; whatever was not told of is read now. Raises: as sources do."""
        for _ in self.catch_up(self.sums_offset):
            pass
        names = [self.short_name(member) for member in self.members[:-1]]
        return "".join(sums_line(self.known[name], name) for name in names).encode()

    def digests_to(self, offset_bytes: int) -> dict[str, str]:
        """Those of the members that end at or before an offset and are known."""
        names = [self.short_name(member) for member in self.members if member.end_bytes <= offset_bytes]
        return {name: self.known[name] for name in names if name in self.known}

    def take(self, offset_bytes: int, content: memoryview) -> None:
        """A run of the stream that was read. What was told before is passed over."""
        done = 0
        while done < len(content):
            at = offset_bytes + done
            member = self.members[self.member_at(at)]
            part = content[done : done + max(member.end_bytes - at, 1)]
            if member is not self.members[-1]:
                self._take(member, at - member.data_offset, part)
            done += len(part)

    def _take(self, member: Member, at: int, content: memoryview) -> None:
        """Of one member; at: in its data, negative in its head."""
        if self.short_name(member) in self.known:
            return
        if self._under_way is None or self._under_way.member is not member:
            self._under_way = _Digest(member)
        if self._under_way.take(at, content):
            self.known[self.short_name(member)] = self._under_way.hexdigest()
            self._under_way = None

    def catch_up(self, offset_bytes: int) -> Iterator[int]:
        """Read again what of the stream is before an offset and not known, so that ``take`` can go on there.

        Yields: where it has come to, for who wants to give up. Raises: as sources do.
        """
        for member in self.members[:-1]:
            if member.offset_bytes < offset_bytes and self.short_name(member) not in self.known:
                at = member.offset_bytes if self._under_way is None else self._under_way.next_offset(member)
                end = min(offset_bytes, member.end_bytes)
                for content in self.read(at, end - at):
                    self.take(at, content)
                    at += len(content)
                    yield at


class _Digest:
    """SHA-256 of one member that is under way."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self._hash = hashlib.sha256()
        self._stored = 0
        """Of its data that it has."""
        self._real = 0
        """Of the file, as it is extracted."""

    def next_offset(self, member: Member) -> int:
        """In the stream: where what it lacks begins; of another member, where that does."""
        return member.data_offset + self._stored if member is self.member else member.offset_bytes

    def take(self, at: int, content: memoryview) -> bool:
        """A run of it; true: that was the last of it. What leaves something out before it is not taken."""
        skipped = self._stored - at
        if 0 <= skipped < len(content):
            data = content[skipped : self.member.data_bytes - at]
            self._data(data)
        if self._stored < self.member.data_bytes or at + len(content) < 0:
            return False
        self._zeros_to(self.member.real_bytes)
        return True

    def _data(self, data: memoryview) -> None:
        member = self.member
        if not member.sparse:
            self._hash.update(data)
            self._stored += len(data)
            return
        done = 0
        for offset_bytes, length_bytes in member.extents.places(self._stored, len(data)):
            self._zeros_to(offset_bytes)
            self._hash.update(data[done : done + length_bytes])
            self._real = offset_bytes + length_bytes
            done += length_bytes
        self._stored += len(data)

    def _zeros_to(self, offset_bytes: int) -> None:
        if self.member.sparse:
            while self._real < offset_bytes:
                zeros = ZEROS[: offset_bytes - self._real]
                self._hash.update(zeros)
                self._real += len(zeros)

    def hexdigest(self) -> str:
        return self._hash.hexdigest()

"""Bringing a target to a source: what differs is written and nothing else, settled in batches, and read back."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vsnapfs.core.errors import BusyError, IntegrityError, StoreError, VsnapfsError
from vsnapfs.repository import bring as bring_module
from vsnapfs.repository.bring import bring, differences, everything
from vsnapfs.repository.file_target import FileTarget
from vsnapfs.repository.sources import FileSource
from vsnapfs.repository.sparse import BLOCK_BYTES, Span, from_offset

pytestmark = pytest.mark.unit
MIB = 1 << 20
SEED = 20261126


class Bytes:
    """A source."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    @property
    def size_bytes(self) -> int:
        return len(self.content)

    def spans(self) -> Iterator[Span]:
        return spans_of(self.content)

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        return self.content[offset_bytes : offset_bytes + length_bytes]


class Disk:
    """A target whose stable storage is apart from what was written."""

    def __init__(self, content: bytes) -> None:
        self.cached = bytearray(content)
        self.stable = bytes(content)
        self.written: list[tuple[int, int]] = []
        self.zeroed: list[tuple[int, int]] = []
        self.settled = 0
        self.read_back_bytes = 0
        self.loses: int | None = None
        """A byte that the medium does not keep."""

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        return bytes(self.cached[offset_bytes : offset_bytes + length_bytes])

    def write(self, offset_bytes: int, content: bytes) -> None:
        self.cached[offset_bytes : offset_bytes + len(content)] = content
        self.written.append((offset_bytes, len(content)))

    def zero(self, offset_bytes: int, length_bytes: int) -> None:
        self.cached[offset_bytes : offset_bytes + length_bytes] = bytes(length_bytes)
        self.zeroed.append((offset_bytes, length_bytes))

    def settle(self) -> None:
        content = bytearray(self.cached)
        if self.loses is not None:
            content[self.loses] ^= 1
        self.stable = bytes(content)
        self.settled += 1

    def read_back(self, offset_bytes: int, length_bytes: int) -> bytes:
        self.read_back_bytes += length_bytes
        return self.stable[offset_bytes : offset_bytes + length_bytes]

    def mismatch(self, offset_bytes: int) -> VsnapfsError:
        return IntegrityError("it differs", offset_bytes=offset_bytes)


class Seen:
    """A watch that remembers."""

    def __init__(self) -> None:
        self.ats: list[int] = []
        self.settleds: list[int] = []

    def at(self, done: int) -> None:
        self.ats.append(done)

    def settled(self, done: int) -> None:
        self.settleds.append(done)


def spans_of(content: bytes) -> Iterator[Span]:
    for at in range(0, len(content), BLOCK_BYTES):
        if any(content[at : at + BLOCK_BYTES]):
            yield Span(at, min(at + BLOCK_BYTES, len(content)))


def all_of(source: Bytes, disk: Disk) -> Iterator[Span]:
    return everything(source, spans_of(bytes(disk.cached)))


def changed_bytes(new: bytes, old: bytes) -> int:
    """Of whole blocks."""
    return sum(
        len(new[at : at + BLOCK_BYTES])
        for at in range(0, len(new), BLOCK_BYTES)
        if new[at : at + BLOCK_BYTES] != old[at : at + BLOCK_BYTES]
    )


@pytest.mark.parametrize("number", range(20))
def test_only_what_differs_is_written(number: int) -> None:
    rng = random.Random(SEED + number)
    size = 3 * MIB + rng.randrange(1, 16) * 512
    old = bytearray(rng.randbytes(size))
    for _ in range(rng.randrange(8)):
        at = rng.randrange(size)
        old[at : at + 200_000] = bytes(min(200_000, size - at))
    new = bytearray(old)
    for _ in range(rng.randrange(12)):
        at, length = rng.randrange(size), rng.randrange(1, 30_000)
        end = min(size, at + length)
        new[at:end] = rng.randbytes(end - at) if rng.random() < 0.5 else bytes(end - at)
    source, disk, seen = Bytes(bytes(new)), Disk(bytes(old)), Seen()
    written = bring(source, disk, all_of(source, disk), seen, verify=True)
    assert disk.stable == new
    assert written == changed_bytes(bytes(new), bytes(old)) == sum(length for _, length in disk.written + disk.zeroed)
    assert disk.read_back_bytes == written
    assert all(not any(new[at : at + length]) for at, length in disk.zeroed)
    assert seen.ats == sorted(seen.ats)


def test_what_is_alike_is_left_alone() -> None:
    content = random.Random(SEED).randbytes(MIB)
    source, disk = Bytes(content), Disk(content)
    assert bring(source, disk, all_of(source, disk), Seen(), verify=True) == 0
    assert (disk.written, disk.settled) == ([], 0)


def test_it_settles_as_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bring_module, "SETTLE_BYTES", 2 * MIB)
    source, disk, seen = Bytes(random.Random(SEED).randbytes(5 * MIB)), Disk(bytes(5 * MIB)), Seen()

    def settled(done: int) -> None:
        assert disk.stable[:done] == source.content[:done]
        seen.settleds.append(done)

    monkeypatch.setattr(seen, "settled", settled)
    bring(source, disk, all_of(source, disk), seen, verify=False)
    assert seen.settleds == [2 * MIB, 4 * MIB]
    assert disk.stable == source.content
    assert disk.read_back_bytes == 0


def test_it_settles_also_where_nothing_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else who is killed after hours of comparing begins anew."""
    monkeypatch.setattr(bring_module, "LOOK_BYTES", 2 * MIB)
    content, seen = random.Random(SEED).randbytes(5 * MIB), Seen()
    source, disk = Bytes(content), Disk(content)
    bring(source, disk, all_of(source, disk), seen, verify=True)
    assert seen.settleds == [2 * MIB, 4 * MIB]


def test_a_byte_that_the_medium_does_not_keep_is_found() -> None:
    source, disk = Bytes(random.Random(SEED).randbytes(3 * MIB)), Disk(bytes(3 * MIB))
    disk.loses = 2 * MIB + 77
    with pytest.raises(IntegrityError) as caught:
        bring(source, disk, all_of(source, disk), Seen(), verify=True)
    assert caught.value.offset_bytes == disk.loses


def test_only_what_was_written_is_read_back() -> None:
    old = random.Random(SEED).randbytes(3 * MIB)
    new = old[:MIB] + bytes(BLOCK_BYTES) + old[MIB + BLOCK_BYTES :]
    source, disk = Bytes(new), Disk(old)
    disk.loses = 5
    assert bring(source, disk, all_of(source, disk), Seen(), verify=True) == BLOCK_BYTES
    assert disk.read_back_bytes == BLOCK_BYTES


def test_from_an_offset_on() -> None:
    spans = [Span(0, 10), Span(20, 30), Span(40, 50)]
    assert list(from_offset(spans, 0)) == spans
    assert list(from_offset(spans, 20)) == spans[1:]
    assert list(from_offset(spans, 25)) == [Span(25, 30), Span(40, 50)]
    assert list(from_offset(spans, 50)) == []


def test_runs_are_apart_where_zeros_begin() -> None:
    new = b"n" * BLOCK_BYTES * 2 + bytes(BLOCK_BYTES) + b"o" * BLOCK_BYTES + b"n" * 512
    old = b"o" * BLOCK_BYTES * 4 + b"n" * 511 + b"x"
    block = BLOCK_BYTES
    assert list(differences(new, old)) == [
        (0, 2 * block, False),
        (2 * block, 3 * block, True),
        (4 * block, 4 * block + 512, False),
    ]
    assert list(differences(new, new)) == []


def test_what_cannot_be_read_is_told_from_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read ends before a block that is damaged, as it does before the end of the file."""
    image = tmp_path / "image"
    image.write_bytes(b"x" * 2 * BLOCK_BYTES)
    pread = os.pread

    def damaged(fd: int, length_bytes: int, offset_bytes: int) -> bytes:
        if offset_bytes >= BLOCK_BYTES:
            raise OSError(errno.EIO, "damaged")
        return pread(fd, min(length_bytes, BLOCK_BYTES - offset_bytes), offset_bytes)

    no_store: Any = None
    with image.open("r+b") as file:
        both: list[Any] = [
            FileSource(file.fileno(), 3 * BLOCK_BYTES, "it"),
            FileTarget(no_store, file.fileno(), 3 * BLOCK_BYTES, "it"),
        ]
        for each in both:
            with pytest.raises(BusyError, match="shorter"):
                each.read(0, 3 * BLOCK_BYTES)
        monkeypatch.setattr(os, "pread", damaged)
        for each in both:
            with pytest.raises(StoreError, match="cannot read it"):
                each.read(0, 2 * BLOCK_BYTES)

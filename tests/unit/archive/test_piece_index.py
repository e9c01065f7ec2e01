"""The index: read as it was written, and every flipped bit of it is noticed."""

from __future__ import annotations

import base64
import random

import msgspec
import pytest

from tests.support.volumes_in_memory import POINT, manifest_of
from vsnapfs.archive.extents import Extents
from vsnapfs.archive.index import (
    CHUNK_BYTES,
    ChunkDigest,
    DamagedIndexError,
    PieceBefore,
    PieceIndex,
    crcs_of,
    damaged_chunks,
    decode,
    decode_maps,
    encode,
    encode_maps,
)
from vsnapfs.archive.stream import VolumeMap
from vsnapfs.binding import chunk_crcs
from vsnapfs.core.errors import FormatUnknownError

pytestmark = pytest.mark.unit

CONTENT = random.Random(1).randbytes(3 * CHUNK_BYTES + 777)


def digest_of(content: bytes, lengths: list[int] | None = None) -> ChunkDigest:
    digest, at = ChunkDigest(), 0
    for length in lengths or [len(content)]:
        digest.update(memoryview(content)[at : at + length])
        at += length
    digest.update(memoryview(content)[at:])
    return digest


def index() -> PieceIndex:
    digest, manifest = digest_of(CONTENT), manifest_of()
    return PieceIndex(
        archive=manifest.archive, repository=manifest.repository, kind=manifest.kind, point=POINT, since=None, parent=None,
        made=manifest.made, piece=3, pieces=4, last=True,
        tape="T1", tape_uuid="u", file=7, stream_offset=100, stream_bytes=len(CONTENT) - 1536, head_bytes=1536,
        plain_bytes=len(CONTENT), stored_bytes=len(CONTENT), continues="monday/db0", compression=None, encryption="age",
        sha256=digest.sha256, chunk_bytes=CHUNK_BYTES, crc32c=digest.crc32c(),
        previous=PieceBefore(tape="T1", tape_uuid="u", file=5, sha256="x"), manifest=manifest, layout="l", digests={"db0": "d"},
        maps=encode_maps({"db0": VolumeMap(Extents([(0, 4096)]), Extents([(8192, 4096)]))}), sums="s",
    )  # fmt: skip


def test_it_is_read_as_it_was_written() -> None:
    assert decode(encode(index())) == index()
    maps = decode_maps(index().maps or {})
    assert (list(maps["db0"].data), list(maps["db0"].zeros)) == ([(0, 4096)], [(8192, 4096)])


def test_every_flipped_bit_is_noticed() -> None:
    content = encode(index())
    for bit in range(8 * len(content)):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises((DamagedIndexError, FormatUnknownError)):
            decode(changed)
    for length in range(0, len(content), 7):
        with pytest.raises(DamagedIndexError):
            decode(content[:length])


def test_a_newer_one_is_refused() -> None:
    with pytest.raises(FormatUnknownError, match="of format 2"):
        decode(encode(index()).replace(b"vsnapfs index 1 ", b"vsnapfs index 2 ", 1))


@pytest.mark.parametrize(
    "wrong",
    [
        {"crc32c": "AAAA"}, {"crc32c": "?"}, {"chunk_bytes": 0}, {"stored_bytes": -1}, {"plain_bytes": 5}, {"file": -1},
        {"archive": "another"}, {"repository": "another"}, {"made": "yesterday"},
    ],
)  # fmt: skip
def test_figures_that_contradict_each_other_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(DamagedIndexError):
        decode(encode(msgspec.structs.replace(index(), **wrong)))


@pytest.mark.parametrize("seed", range(20))
def test_digests_do_not_depend_on_how_it_comes(seed: int) -> None:
    dice = random.Random(seed)
    lengths = [dice.choice((1, 100, CHUNK_BYTES - 1, CHUNK_BYTES, 70_000)) for _ in range(20)]
    digest, whole = digest_of(CONTENT, lengths), digest_of(CONTENT)
    assert (digest.sha256, digest.crc32c(), digest.stored_bytes) == (whole.sha256, whole.crc32c(), len(CONTENT))
    assert base64.b64decode(digest.crc32c()) == chunk_crcs(CONTENT, CHUNK_BYTES)


def test_a_chunk_with_other_bytes_is_named() -> None:
    crcs = crcs_of(index())
    for chunk in range(4):
        changed = bytearray(CONTENT)
        changed[chunk * CHUNK_BYTES + 5] ^= 1
        assert list(damaged_chunks(memoryview(changed), crcs, 0, CHUNK_BYTES)) == [chunk]
        part = memoryview(changed)[CHUNK_BYTES:]
        assert list(damaged_chunks(part, crcs, 1, CHUNK_BYTES)) == ([chunk] if chunk else [])
    assert list(damaged_chunks(memoryview(CONTENT), crcs, 0, CHUNK_BYTES)) == []


def test_checksums_are_the_published_ones() -> None:
    assert chunk_crcs(b"123456789", 9) == (0xE3069283).to_bytes(4, "little")
    assert chunk_crcs(b"123456789" * 2, 9) == 2 * (0xE3069283).to_bytes(4, "little")
    assert chunk_crcs(b"", 9) == b""

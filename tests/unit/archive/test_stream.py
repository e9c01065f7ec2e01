"""The stream: any run of it is the same as that part of the whole, a second reader reads it, and cuts lie where they may."""

from __future__ import annotations

import hashlib
import io
import random
import tarfile
from bisect import bisect_right
from typing import IO

import pytest

from tests.support.volumes_in_memory import MemorySource, manifest_of
from vsnapfs.archive.stream import Stream
from vsnapfs.archive.sums import SummedStream
from vsnapfs.archive.tar import UNIT_BYTES, parse_sums

pytestmark = pytest.mark.unit

MIB = 1 << 20


def volumes() -> list[MemorySource]:
    """Runs at random places, none, one block, a size that is no multiple of 4 KiB, all of it, thousands."""
    dice = random.Random(5)
    scattered = [(block * 4096, 4096) for block in sorted(dice.sample(range(256), 40))]
    return [
        MemorySource("db0", MIB, scattered, seed=2),
        MemorySource("empty", MIB, []),
        MemorySource("one", 512, [(0, 512)]),
        MemorySource("odd", 100_864, [(8192, 4096), (98_304, 2560)], seed=3),
        MemorySource("v" * 127, 65536, [(0, 65536)]),
        MemorySource("many", 64 * MIB, [(block * 8192, 4096) for block in range(3000)]),
    ]


def changes() -> list[MemorySource]:
    return [
        MemorySource("db0", MIB, [(0, 4096), (65536, 8192)], zeros=[(8192, 4096), (131072, 65536)], changes=True),
        MemorySource("same", MIB, [], changes=True),
        MemorySource("zeroed", MIB, [], zeros=[(0, MIB)], changes=True),
    ]


def stream_of(sources: list[MemorySource]) -> SummedStream:
    return SummedStream(manifest_of(incremental=sources[0].changes), sources)


def whole(stream: Stream) -> bytes:
    return b"".join(bytes(part) for part in stream.read(0, stream.length_bytes))


@pytest.fixture(scope="module", params=["full", "incremental"])
def made(request: pytest.FixtureRequest) -> tuple[list[MemorySource], SummedStream, bytes]:
    sources = volumes() if request.param == "full" else changes()
    stream = stream_of(sources)
    return sources, stream, whole(stream)


Made = tuple[list[MemorySource], SummedStream, bytes]


def test_any_run_is_that_part_of_the_whole(made: Made) -> None:
    sources, stream, content = made
    assert len(content) == stream.length_bytes
    assert whole(stream_of(sources)) == content
    dice = random.Random(11)
    for _ in range(300):
        start = dice.randrange(len(content))
        length = min(dice.choice((1, 511, 512, 5000, 200_000)), len(content) - start)
        buffer = bytearray(length)
        stream.fill(start, memoryview(buffer))
        assert buffer == content[start : start + length], (start, length)


def test_it_is_the_stream_that_it_was() -> None:
    found = {name: hashlib.sha256(whole(stream_of(sources))).hexdigest() for name, sources in SETS.items()}
    assert found == GOLDENS


SETS = {"full": volumes(), "incremental": changes()}
GOLDENS = {
    "full": "33d3c5eab1214e83318ab9ddc72a0f26647c1d1fdf675f39b63998a438727547",
    "incremental": "57857ce7d4472b379d09be6f7dbc32fa5873223e7e1966ad8a3e49b0876df599",
}
"""What stands on old tapes is what a resume has to make again."""


def in_parts(file: IO[bytes]) -> bytes:
    """Python's tarfile takes a time that is quadratic in what is asked of a sparse member at once."""
    return b"".join(iter(lambda: file.read(65536), b""))


def test_python_reads_it(made: Made) -> None:
    sources, stream, content = made
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        members = {member.name: (member, tar.extractfile(member)) for member in tar}
        read = {name: in_parts(file) for name, (_, file) in members.items() if file is not None}
    assert list(read) == [member.name for member in stream.members]
    assert {member.mode for member, _ in members.values()} == {0o444}
    assert {(member.uid, member.gid, member.uname, member.gname) for member, _ in members.values()} == {(0, 0, "", "")}
    if not sources[0].changes:
        assert [read[f"monday/{source.name}"] for source in sources] == [source.image() for source in sources]
    sums = parse_sums(read["monday/SHA256SUMS"])
    wanted = {name.partition("/")[2]: hashlib.sha256(text).hexdigest() for name, text in read.items()}
    del wanted["SHA256SUMS"]
    assert sums == wanted


def test_changes_say_what_became_of_each_byte() -> None:
    sources = changes()
    with tarfile.open(fileobj=io.BytesIO(whole(stream_of(sources)))) as tar:
        names = tar.getnames()
        described = tar.extractfile("monday/db0.json")
        stored = tar.extractfile("monday/db0.extents")
        assert described is not None
        assert stored is not None
        assert described.read() == (
            b'{"volume":"db0","size_bytes":1048576,"changed_bytes":81920,"extents":'
            b"[[0,4096,0],[8192,4096,1],[65536,8192,0],[131072,65536,1]]}\n"
        )
        image = sources[0].image()
        assert stored.read() == image[:4096] + image[65536 : 65536 + 8192]
    short = ["MANIFEST.json", "db0.json", "db0.extents", "same.json", "zeroed.json", "SHA256SUMS"]
    assert names == [f"monday/{name}" for name in short]


def allowed(content: bytes, stream: SummedStream) -> set[int]:
    """Where a cut may be, by what Python's tarfile says of the members."""
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        members = tar.getmembers()
    found = {member.offset for member in members} | {len(content)}
    for member, ours in zip(members, stream.members, strict=True):
        if ours.source is not None:
            found |= set(range(ours.data_offset + UNIT_BYTES, ours.data_offset + ours.data_bytes, UNIT_BYTES))
            assert ours.data_offset >= member.offset_data
    return found


@pytest.mark.parametrize("piece_bytes", [1, 512, 3000, 65536, 1 << 20, 1 << 40])
def test_cuts_lie_where_they_may_and_as_far_as_they_may(made: Made, piece_bytes: int) -> None:
    _, stream, content = made
    places = sorted(allowed(content, stream))
    cuts = stream.cuts(piece_bytes)
    at = 0
    for cut in cuts[:3000]:
        assert cut.offset_bytes == at
        end = at + cut.length_bytes
        last, first = bisect_right(places, at + piece_bytes) - 1, bisect_right(places, at)
        assert end == places[max(last, first)]
        at = end
    assert len(cuts) > 3000 or at == len(content)
    assert all(stream.may_be_cut(cut.offset_bytes) for cut in cuts)


def test_a_place_where_none_may_be_is_told(made: Made) -> None:
    _, stream, content = made
    places = allowed(content, stream)
    for at in range(0, len(content), UNIT_BYTES):
        assert stream.may_be_cut(at) == (at in places), at


def test_digests_are_taken_in_any_pieces_and_made_up_for() -> None:
    sources = volumes()
    content = whole(stream_of(sources))
    wanted = stream_of(sources).sums_text()
    dice = random.Random(3)
    for start in (0, *dice.sample(range(0, len(content), 512), 6)):
        before, stream = stream_of(sources), stream_of(sources)
        for at in range(0, start, 70_000):
            before.take(at, memoryview(content)[at : min(at + 70_000, start)])
        stream.known |= before.digests_to(start)
        assert all(stream.members[0].end_bytes <= start for _ in stream.known)
        for _ in stream.catch_up(start):
            pass
        at = start
        while at < len(content):
            length = dice.randrange(1, 90_000)
            stream.take(at, memoryview(content)[at : at + length])
            stream.take(at, memoryview(content)[at : at + length])  # again, as after the end of a tape
            at += length
        assert len(stream.known) == len(stream.members) - 1
        assert stream.sums_text() == wanted


def test_the_manifest_says_what_is_stored() -> None:
    manifest = stream_of(changes()).manifest
    figures = {
        volume.name: (volume.size_bytes, volume.stored_bytes, volume.changed_bytes) for volume in manifest.volumes
    }
    assert figures == {"db0": (MIB, 12288, 81920), "same": (MIB, 0, 0), "zeroed": (MIB, 0, MIB)}

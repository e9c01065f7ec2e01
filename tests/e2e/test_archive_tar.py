"""GNU tar alone, and sha256sum alone, on streams of odd volumes that are cut anywhere where a cut may be.

VSNAPFS_ARCHIVE_TARS says how many streams.
"""

from __future__ import annotations

import os
import random
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.files import data_ranges, opened
from tests.support.volumes_in_memory import MemorySource, manifest_of
from vsnapfs.archive.extents import Extents
from vsnapfs.archive.stream import Cut
from vsnapfs.archive.sums import SummedStream
from vsnapfs.archive.tar import padded, plain_head, sparse_head

pytestmark = pytest.mark.e2e

STREAMS = int(os.environ.get("VSNAPFS_ARCHIVE_TARS", "25"))
GIB = 1 << 30
KIB = 1 << 10
NAME = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+:@-]{0,126}", fullmatch=True).filter(lambda name: ".." not in name)
SIZES = st.sampled_from([512, 4096, 4096 + 512, 99_840, 1 << 20, (1 << 20) + 1536])


@st.composite
def volumes(draw: st.DrawFn) -> list[MemorySource]:
    names = draw(st.lists(NAME, min_size=1, max_size=4, unique=True))
    return [
        _volume(name, draw(SIZES), draw(st.integers(0, 2**32)), changes=False) for name in names if name != "SHA256SUMS"
    ]


def _volume(name: str, size_bytes: int, seed: int, *, changes: bool) -> MemorySource:
    """None, some or all of its blocks are data."""
    dice = random.Random(seed)
    blocks = -(-size_bytes // 4096)
    chosen = sorted(
        dice.sample(range(blocks), dice.choice((0, 1, blocks // 2, blocks)) if blocks > 1 else dice.randrange(2))
    )
    joined = Extents((block * 4096, min(4096, size_bytes - block * 4096)) for block in chosen)
    return MemorySource(name, size_bytes, list(joined), changes=changes, seed=seed)


def tar(*words: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        ["tar", *map(str, words)], cwd=cwd, env=os.environ | {"LC_ALL": "C"}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def written(stream: SummedStream, cuts: list[Cut], directory: Path) -> list[str]:
    """The pieces, as words for tar."""
    words: list[str] = []
    for number, cut in enumerate(cuts):
        with (directory / f"piece{number}").open("wb") as piece:
            piece.write(cut.head)
            for part in stream.read(cut.offset_bytes, cut.length_bytes):
                piece.write(part)
        words += ["-f", f"piece{number}"]
    return words


@settings(max_examples=STREAMS, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(sources=volumes(), seed=st.integers(0, 2**32), longest=st.sampled_from([1, 512, 4000, 50_000, 1 << 20]))
def test_gnu_tar_reads_any_pieces(sources: list[MemorySource], seed: int, longest: int) -> None:
    dice = random.Random(seed)
    stream = SummedStream(manifest_of(), sources)
    cuts: list[Cut] = []
    at = 0
    while at < stream.length_bytes:
        most = dice.randrange(1, longest + 1) if len(cuts) < 60 else stream.length_bytes
        cuts.append(stream.cut(at, len(cuts), most))
        at += cuts[-1].length_bytes
    with tempfile.TemporaryDirectory(prefix="vsnapfs-tar-") as name:
        directory = Path(name)
        words = written(stream, cuts, directory)
        multi = ["--multi-volume"] if len(cuts) > 1 else []
        listed = tar(*multi, "-t", *words, cwd=directory).splitlines()
        assert listed == [member.name for member in stream.members]
        out = directory / "out"
        out.mkdir()
        tar(*multi, "-x", "-C", out, *words, cwd=directory)
        _check(sources, out / "monday")


def _check(sources: list[MemorySource], directory: Path) -> None:
    subprocess.run(["sha256sum", "--quiet", "--strict", "-c", "SHA256SUMS"], cwd=directory, check=True)
    for source in sources:
        path = directory / source.name
        assert path.read_bytes() == source.image()
        data_bytes = sum(span.length_bytes for span in source.runs())
        with opened(path) as fd:
            assert sum(length for _, length in data_ranges(fd)) <= -(-data_bytes // 4096) * 4096
        assert path.stat().st_mode & 0o777 == 0o444


@pytest.mark.parametrize("longest", [1 << 40, 3000])
def test_a_volume_of_100_gib_stays_sparse(tmp_path: Path, longest: int) -> None:
    """It is longer than fields of old tars can say. Its digest would take a minute."""
    source = MemorySource("db0", 100 * GIB, [(9 * GIB, 8192), (99 * GIB, 4096)])
    stream = SummedStream(manifest_of(), [source], {"db0": "0" * 64})
    words = written(stream, stream.cuts(longest), tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    tar(*(["-M"] if len(words) > 2 else []), "-x", "-C", out, *words, cwd=tmp_path)
    found = (out / "monday" / "db0").stat()
    assert (found.st_size, found.st_blocks * 512) == (100 * GIB, 12288)
    with (out / "monday" / "db0").open("rb") as file:
        for offset_bytes in (9 * GIB, 99 * GIB):
            wanted = bytearray(4096)
            source.readinto(offset_bytes, memoryview(wanted))
            file.seek(offset_bytes)
            assert file.read(4096) == wanted


@pytest.mark.parametrize("kind", ["plain", "sparse"])
def test_members_that_store_more_than_8_gib_are_passed_over_right(tmp_path: Path, kind: str) -> None:
    """The archive is a sparse file itself, so it takes no room."""
    stored = 9 * GIB + 512
    head = (
        plain_head("a/b", stored, 0)
        if kind == "plain"
        else sparse_head("a/b", 20 * GIB, Extents([(4 * GIB, stored)]), 0)
    )
    with (tmp_path / "big.tar").open("wb") as file:
        file.write(head)
        file.seek(len(head) + padded(stored))
        file.write(plain_head("a/next", 5, 0) + b"hello".ljust(512, b"\0") + bytes(1024))
    listed = [line.split()[2::3] for line in tar("-tvf", "big.tar", cwd=tmp_path).splitlines()]
    assert listed == [[str(stored if kind == "plain" else 20 * GIB), "a/b"], ["5", "a/next"]]


def test_thousands_of_runs(tmp_path: Path) -> None:
    source = MemorySource("db0", 64 << 20, [(block * 8192, 4096) for block in range(8000)])
    stream = SummedStream(manifest_of(), [source])
    words = written(stream, stream.cuts(8 << 20), tmp_path)
    assert len(words) == 8
    out = tmp_path / "out"
    out.mkdir()
    tar("-M", "-x", "-C", out, *words, cwd=tmp_path)
    _check([source], out / "monday")

"""What differs between two points; and that applying it to the older gives the newer."""

from __future__ import annotations

import io
import json
import random
import tarfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from tests.support.volumes import content_at, discard, mark, put
from vsnapfs.core.errors import NoSpaceError, NotFoundError, UsageError
from vsnapfs.core.model import Extent, VolumeDiff
from vsnapfs.core.state import Progress
from vsnapfs.repository.repository import Repository

SIZE = 256 << 10


@pytest.fixture
def repository(repository: Repository) -> Repository:
    repository.volume_add("db0", size_bytes=SIZE)
    repository.volume_add("db1", size_bytes=SIZE)
    return repository


def diff_of(repository: Repository, since: str, until: str, name: str = "db0") -> VolumeDiff:
    return repository.diff(repository.resolve(since), repository.resolve(until), name)


def applied(old: bytes, diff: VolumeDiff, new: bytes) -> bytes:
    """The older content with the extents of the newer put in."""
    content = bytearray(old[: diff.size_bytes].ljust(diff.size_bytes, b"\0"))
    for extent in diff.extents:
        end = extent.offset_bytes + extent.length_bytes
        content[extent.offset_bytes : end] = (
            bytes(extent.length_bytes) if extent.zero else new[extent.offset_bytes : end]
        )
    return bytes(content)


def test_extents(repository: Repository) -> None:
    mark(repository, "db0", 0, b"x" * 8192, "a")
    put(repository, "db0", 4096, b"y" * 100)
    put(repository, "db0", 4196, b"y" * 100)
    put(repository, "db1", 0, b"elsewhere")
    discard(repository, "db0", 65536, 4096)
    repository.bookmark_add("b")
    diff = diff_of(repository, "a", "b")
    assert diff.extents == [
        Extent(offset_bytes=4096, length_bytes=200, zero=False),
        Extent(offset_bytes=65536, length_bytes=4096, zero=True),
    ]
    assert (diff.volume, diff.size_bytes, diff.changed_bytes) == ("db0", SIZE, 4296)
    assert (diff.since.bookmark, diff.until.bookmark) == ("a", "b")


def test_nothing_differs(repository: Repository) -> None:
    mark(repository, "db0", 0, b"x", "a")
    put(repository, "db1", 0, b"x")
    repository.bookmark_add("b")
    assert diff_of(repository, "a", "b").extents == []
    assert diff_of(repository, "b", "b").extents == []


def test_the_wrong_order(repository: Repository) -> None:
    repository.bookmark_add("a")
    repository.bookmark_add("b")
    with pytest.raises(UsageError, match="older point first"):
        diff_of(repository, "b", "a")


def test_a_volume_that_came_in_between(repository: Repository) -> None:
    repository.bookmark_add("a")
    repository.volume_add("late", size_bytes=SIZE)
    mark(repository, "late", 4096, b"x" * 512, "b")
    diff = diff_of(repository, "a", "b", "late")
    assert diff.extents == [Extent(offset_bytes=4096, length_bytes=512, zero=False)]


def test_a_volume_that_is_another_of_that_name(repository: Repository) -> None:
    mark(repository, "db0", 0, b"x" * SIZE, "a")
    old = content_at(repository, "db0", "a")
    repository.volume_remove("db0")
    repository.volume_add("db0", size_bytes=SIZE // 2)
    mark(repository, "db0", 4096, b"y" * 512, "b")
    diff, new = diff_of(repository, "a", "b"), content_at(repository, "db0", "b")
    assert diff.changed_bytes == SIZE // 2
    assert applied(old, diff, new) == new


def test_a_volume_that_went(repository: Repository) -> None:
    repository.bookmark_add("a")
    repository.volume_remove("db0")
    repository.bookmark_add("b")
    with pytest.raises(NotFoundError):
        diff_of(repository, "a", "b")


def test_sizes(repository: Repository) -> None:
    mark(repository, "db0", 0, b"x" * SIZE, "a")
    repository.volume_resize("db0", SIZE // 4)
    repository.bookmark_add("small")
    repository.volume_resize("db0", SIZE // 2)
    repository.bookmark_add("grown")
    old = content_at(repository, "db0", "a")
    for until in ("small", "grown"):
        diff, new = diff_of(repository, "a", until), content_at(repository, "db0", until)
        assert diff.size_bytes == len(new)
        assert applied(old, diff, new) == new


@pytest.mark.parametrize("seed", range(5))
def test_applying_it_gives_the_newer(repository: Repository, seed: int) -> None:
    rng = random.Random(seed)
    repository.volume_resize("db0", SIZE - 512)
    for number in range(12):
        for _ in range(rng.randrange(6)):
            at = rng.randrange(SIZE - 512)
            length = min(rng.choice([1, 511, 512, 4096, 40_000]), SIZE - 512 - at)
            if rng.random() < 0.3:
                discard(repository, "db0", at, length)
            else:
                put(repository, "db0", at, rng.choice([bytes(length), rng.randbytes(length)]))
        if rng.random() < 0.2:
            repository.journal.seal()
        repository.bookmark_add(f"b{number}")
    for _ in range(20):
        first, second = sorted(rng.sample(range(12), 2))
        old, new = content_at(repository, "db0", f"b{first}"), content_at(repository, "db0", f"b{second}")
        diff = diff_of(repository, f"b{first}", f"b{second}")
        assert applied(old, diff, new) == new
        ends = [extent.offset_bytes + extent.length_bytes for extent in diff.extents]
        starts = [extent.offset_bytes for extent in diff.extents]
        assert all(end <= start for end, start in zip(ends, starts[1:], strict=False))


class TestStream:
    """`export --since`: a tar of the diff and the bytes."""

    @pytest.fixture
    def repository(self, repository: Repository) -> Repository:
        rng = random.Random(11)
        mark(repository, "db0", 0, rng.randbytes(SIZE), "a")
        put(repository, "db0", 100, rng.randbytes(5000))
        put(repository, "db0", 100_000, rng.randbytes(100_000))
        discard(repository, "db0", 50_000, 8192)
        repository.bookmark_add("b")
        return repository

    def stream(self, repository: Repository, report: Callable[[Progress], None] | None = None) -> bytes:
        out = io.BytesIO()
        repository.export_changes(repository.resolve("a"), repository.resolve("b"), "db0", out, report)
        return out.getvalue()

    def test_members(self, repository: Repository) -> None:
        with tarfile.open(fileobj=io.BytesIO(self.stream(repository))) as tar:
            described, extents = tar.getmembers()
            assert (described.name, extents.name) == ("db0.json", "db0.extents")
            second = repository.bookmark("b").time_ns // 10**9
            assert {(member.mtime, member.mode, member.uid, member.gid) for member in tar} == {(second, 0o444, 0, 0)}
            opened = [tar.extractfile(member) for member in (described, extents)]
            assert all(opened)
            text, content = (file.read() for file in opened if file)
        diff = msgspec.json.decode(text, type=VolumeDiff)
        assert diff == diff_of(repository, "a", "b")
        assert json.loads(text)["until"]["bookmark"] == "b"
        new = content_at(repository, "db0", "b")
        data = [extent for extent in diff.extents if not extent.zero]
        assert content == b"".join(new[e.offset_bytes : e.offset_bytes + e.length_bytes] for e in data)

    def test_the_same_bytes_each_time(self, repository: Repository) -> None:
        first = self.stream(repository)
        repository.journal.seal()
        assert self.stream(repository) == first

    def test_progress(self, repository: Repository) -> None:
        told: list[Progress] = []
        self.stream(repository, told.append)
        assert (told[-1].done, told[-1].total) == (105_000, 105_000)

    def test_nothing_changed(self, repository: Repository) -> None:
        out = io.BytesIO()
        point = repository.resolve("b")
        repository.export_changes(point, point, "db0", out)
        with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar:
            assert [(member.name, member.size) for member in tar][1] == ("db0.extents", 0)

    def test_a_name_of_full_length(self, repository: Repository) -> None:
        name = "v" * 127
        repository.volume_add(name, size_bytes=4096)
        mark(repository, name, 0, b"x", "c")
        out = io.BytesIO()
        repository.export_changes(repository.resolve("a"), repository.resolve("c"), name, out)
        with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar:
            assert tar.getnames() == [f"{name}.json", f"{name}.extents"]

    def test_the_disk_is_full(self, repository: Repository) -> None:
        with Path("/dev/full").open("wb", buffering=0) as full, pytest.raises(NoSpaceError):
            repository.export_changes(repository.resolve("a"), repository.resolve("b"), "db0", full.fileno())

"""What the plane counts, as `vsnapfs status` tells it: by operation and by open file, with how long the answers took."""

from __future__ import annotations

import mmap
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.devices import sh
from tests.support.files import opened, punch, pwrite_all
from tests.support.processes import Mounted, make_repository, must, must_json
from tests.support.waiting import eventually
from vsnapfs.core.state import OpenFile, RequestCount, Status
from vsnapfs.daemon.client import connect
from vsnapfs.daemon.requests import GetStatus

pytestmark = [pytest.mark.mount, pytest.mark.requires_root, pytest.mark.requires_fuse]

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
READS = 16


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Mounted]:
    repository = make_repository(tmp_path / "repository", db="4M", large="10G")
    with Mounted(repository, tmp_path / "mount") as server:
        yield server


def status_of(server: Mounted) -> Status:
    return connect(server.repository).call(GetStatus())


def settled(server: Mounted, operation: str, requests: int) -> RequestCount:
    """The counts of an operation, when the time of so many answers is counted: that is done after the answer."""

    def look() -> list[RequestCount]:
        count = status_of(server).requests.get(operation)
        timed = sum(c.requests for c in count.latency.classes) if count else 0
        return [count] if count and timed == requests else []

    return eventually(look, f"{requests} times of {operation}")[0]


def open_file(server: Mounted) -> OpenFile:
    (file,) = status_of(server).open_files
    return file


def read_direct(fd: int, length_bytes: int, offset_bytes: int) -> int:
    """Past the cache, as one request. Returns bytes read."""
    with mmap.mmap(-1, length_bytes) as buf:
        return os.preadv(fd, [buf], offset_bytes)


def test_an_operation_and_an_open_file(server: Mounted) -> None:
    path = server.mountpoint / "live/db"
    with opened(path, os.O_RDWR | os.O_DIRECT) as fd:
        for number in range(READS):
            assert read_direct(fd, 64 * KIB, number * 64 * KIB) == 64 * KIB
        reads = settled(server, "read", READS)
        assert (reads.requests, reads.bytes, reads.errors) == (READS, READS * 64 * KIB, 0)
        assert reads.nanoseconds > 0
        file = open_file(server)
        assert (file.volume, file.live, file.point) == ("db", True, None)
        assert (file.requests, file.bytes, file.errors) == (READS, READS * 64 * KIB, 0)
        punch(fd, 0, MIB)
        with pytest.raises(OSError, match="No space"), mmap.mmap(-1, 4 * KIB) as buf:
            os.pwritev(fd, [buf], 4 * MIB)
        status = status_of(server)
        assert status.requests["fallocate"].bytes == MIB
        assert status.requests["write"].errors == 1
        file = open_file(server)
        assert (file.requests, file.errors) == (READS + 2, 1)
        assert file.bytes == READS * 64 * KIB + MIB
    eventually(lambda: not status_of(server).open_files, "it is closed")


def test_latencies_are_a_distribution(server: Mounted) -> None:
    """They add up; each class is half as wide as its limit; the percentiles are limits of classes, in order."""
    with opened(server.mountpoint / "live/db", os.O_RDWR) as fd:
        for number in range(READS):
            pwrite_all(fd, b"x" * 4 * KIB, number * 4 * KIB)
            os.fsync(fd)
        for operation in ("write", "fsync"):
            count = settled(server, operation, READS)
            limits = [c.below_ns for c in count.latency.classes if c.below_ns is not None]
            assert limits == sorted(set(limits))
            assert all(limit & (limit - 1) == 0 for limit in limits)
            low = sum((c.below_ns or 1 << 32) // 2 * c.requests for c in count.latency.classes)
            assert low <= count.nanoseconds <= 2 * low
            latency = count.latency
            assert latency.p50_ns is not None
            assert latency.p90_ns is not None
            assert latency.p99_ns is not None
            assert latency.p50_ns <= latency.p90_ns <= latency.p99_ns
            assert latency.p99_ns == limits[-1]


def test_views_are_known_by_a_point(server: Mounted) -> None:
    with opened(server.mountpoint / "live/db", os.O_RDWR) as fd:
        pwrite_all(fd, b"x" * 4 * KIB, 0)
    must(server.repository, "bookmark", "add", "b")
    with opened(server.mountpoint / "snaps/b/db") as view, opened(server.mountpoint / "live/large") as live:
        assert os.pread(live, 1, 0) == b"\0"
        assert [os.pread(view, 1, at) for at in (0, 4 * KIB)] == [b"x", b"\0"]
        files = {file.volume: file for file in status_of(server).open_files}
        point = files["db"].point
        assert point is not None
        assert (files["db"].live, point.bookmark) == (False, "b")
        assert (files["large"].live, files["large"].point) == (True, None)
        assert files["db"].requests > 0
        shown = must(server.repository, "status")
        assert re.search(r"^served: +read, \d+ requests, .*99 % under \d", shown, re.MULTILINE), shown
        assert re.search(rf"^open: +@{point.seqno}/db, \d+ requests, ", shown, re.MULTILINE), shown
        assert re.search(r"^open: +live/large, \d+ requests, ", shown, re.MULTILINE), shown
        assert must_json(server.repository, "status")["open_files"][0]["latency"]["classes"]


@pytest.mark.parametrize(("pieces", "piece_bytes"), [(2560, 4 * KIB), (1, 10 * MIB)])
def test_tar_reads_what_is_there(server: Mounted, tmp_path: Path, pieces: int, piece_bytes: int) -> None:
    """`tar -S` of 10 GiB that hold 10 MiB: it looks for the holes and reads the rest. What it costs beyond that is the
    kernel's, which reads ahead past the end of each piece that is longer than a page or two."""
    rng = random.Random(5)
    part = 10 * GIB // pieces
    with opened(server.mountpoint / "live/large", os.O_RDWR) as fd:
        for number in range(pieces):
            offset = number * part + rng.randrange(0, part - piece_bytes, 4 * KIB)
            for at in range(0, piece_bytes, MIB):
                pwrite_all(fd, rng.randbytes(min(MIB, piece_bytes)), offset + at)
    must(server.repository, "bookmark", "add", "b")
    archive = tmp_path / "archive.tar"
    sh("tar", "--sparse", "-C", server.mountpoint / "snaps/b", "-cf", archive, "large")
    served = status_of(server).requests["read"].bytes
    assert 10 * MIB <= served < 20 * MIB
    assert 10 * MIB < archive.stat().st_size < 11 * MIB

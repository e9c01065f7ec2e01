"""A long random trace through the real mount: every bookmark and any seqno shows the volumes as they were.

The model is built from the steps, in the order in which they were made; the journal's own list of records is only asked where one
step ended and the next began, since the kernel may send one write(2) in several requests.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pytest

from tests.support.devices import read_only_directory, sh
from tests.support.files import assert_shows, opened, pread_all, punch, pwrite_all
from tests.support.processes import Mounted, make_repository
from tests.support.reference import Add, History, Mark, Record, Write, Zero
from tests.support.trace import Bookmark, Discard, Step, Trace
from vsnapfs.binding import RecordPiece
from vsnapfs.core.model import DataMode
from vsnapfs.daemon.client import connect
from vsnapfs.daemon.requests import BookmarkAdd
from vsnapfs.repository.repository import Repository

pytestmark = [pytest.mark.mount, pytest.mark.requires_fuse, pytest.mark.timeout(300)]

SEED = int(os.environ.get("VSNAPFS_TRACE_SEED", "20261123"))
SIZES = {"a": (1 << 20) + 512, "b": 3 << 20, "c": (2 << 20) - 1536}
BOOKMARKS = 50
STEPS_BETWEEN = 30
SYNC_EVERY = 12
POINTS = 1000


@dataclass
class Traced:
    """A repository after the trace. ``ids``: of the volumes; ``bookmarks``: name to seqno; ``server``: still running."""

    repository: Path
    server: Mounted
    history: History
    ids: dict[str, int]
    bookmarks: dict[str, int]


def play(server: Mounted, steps: list[Step]) -> dict[str, int]:
    """Do the steps, with an fsync now and then; returns the bookmarks."""
    client = connect(server.repository)
    fds = {name: os.open(server.mountpoint / "live" / name, os.O_RDWR) for name in SIZES}
    bookmarks: dict[str, int] = {}
    try:
        for number, step in enumerate(steps):
            if number % SYNC_EVERY == 0:
                os.fsync(fds["a"])
            if isinstance(step, Bookmark):
                bookmarks[step.name] = client.call(BookmarkAdd(name=step.name)).seqno
            elif isinstance(step, Discard):
                punch(fds[step.volume], step.offset_bytes, step.length_bytes)
            else:
                pwrite_all(fds[step.volume], step.data, step.offset_bytes)
    finally:
        for fd in fds.values():
            os.close(fd)
    return bookmarks


def history_of(repository: Path, steps: list[Step]) -> tuple[History, dict[str, int]]:
    """The steps as records, cut where the journal says that one record ends; and the volumes' ids.

    Raises: AssertionError: the records of a step do not cover exactly its range, in order, next to each other in the journal.
    """
    with Repository.open(repository, owner=False) as opened_repository:
        ids = {name: opened_repository.volume(name).id for name in SIZES}
        ranges = {
            seqno: list(pieces)
            for seqno, pieces in groupby(opened_repository.journal.pieces(), lambda piece: piece.seqno)
        }
    records: list[Record] = [Add(number, SIZES[name]) for name, number in sorted(ids.items(), key=lambda item: item[1])]
    for step in steps:
        if isinstance(step, Bookmark):
            records.append(Mark(step.name))
            continue
        end = step.offset_bytes + (step.length_bytes if isinstance(step, Discard) else len(step.data))
        at = step.offset_bytes
        while at < end:
            record = _record(step, ids[step.volume], at, ranges[len(records) + 1])
            at += record.length_bytes if isinstance(record, Zero) else len(record.data)
            records.append(record)
        assert at == end
    assert len(ranges) == sum(isinstance(record, Write | Zero) for record in records)
    return History(records), ids


def _record(step: Step, volume: int, at: int, pieces: list[RecordPiece]) -> Write | Zero:
    """The part of a step that one record holds, which must begin at ``at``."""
    assert not isinstance(step, Bookmark)
    assert {piece.volume for piece in pieces} == {volume}
    assert pieces[0].offset_bytes == at
    length_bytes = sum(piece.length_bytes for piece in pieces)
    if isinstance(step, Discard):
        return Zero(volume, at, length_bytes)
    start = at - step.offset_bytes
    return Write(volume, at, step.data[start : start + length_bytes])


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory, transport: str) -> Iterator[Traced]:
    """The trace, done once. Small segments, so that there are many of them and merged maps of two levels."""
    path = tmp_path_factory.mktemp("trace")
    repository = make_repository(path / "repository", **SIZES)
    (repository / "vsnapfs.toml").write_text(f'[journal]\nsegment_size = "1M"\n[mount]\ntransport = "{transport}"\n')
    steps = list(Trace(SEED, SIZES).steps(BOOKMARKS, STEPS_BETWEEN))
    print(f"VSNAPFS_TRACE_SEED={SEED}")
    with Mounted(repository, path / "mount") as server:
        bookmarks = play(server, steps)
        history, ids = history_of(repository, steps)
        yield Traced(repository, server, history, ids, bookmarks)
    shutil.rmtree(path)


def assert_bookmarks(mountpoint: Path, traced: Traced) -> None:
    """150 volumes, all open at once: bytes, size, blocks and holes are those of the model."""
    assert sorted(os.listdir(mountpoint / "snaps")) == sorted([*traced.bookmarks, "latest"])
    fds: dict[tuple[str, str], int] = {}
    try:
        for name in traced.bookmarks:
            fds |= {(name, volume): os.open(mountpoint / "snaps" / name / volume, os.O_RDONLY) for volume in SIZES}
        assert len(fds) == BOOKMARKS * len(SIZES)
        names = {seqno: name for name, seqno in traced.bookmarks.items()}
        for seqno, state in traced.history.states(traced.bookmarks.values()):
            for volume, number in traced.ids.items():
                assert_shows(fds[names[seqno], volume], state[number])
    finally:
        for fd in fds.values():
            os.close(fd)


def assert_points(mountpoint: Path, traced: Traced, seed: int) -> None:
    """Random seqnos through at/@N, in the order of a dice; each volume there equal to the model."""
    rng = random.Random(seed)
    seqnos = rng.sample(range(len(SIZES), traced.history.last_seqno + 1), POINTS)
    fds: dict[tuple[int, str], int] = {}
    for first in range(0, POINTS, 100):
        try:
            for seqno in seqnos[first : first + 100]:
                fds |= {(seqno, volume): os.open(mountpoint / f"at/@{seqno}" / volume, os.O_RDONLY) for volume in SIZES}
            for seqno, state in traced.history.states({seqno for seqno, _ in fds}):
                for volume, number in traced.ids.items():
                    assert pread_all(fds[seqno, volume], SIZES[volume] + 1) == state[number].content, (
                        f"{volume} at @{seqno}"
                    )
        finally:
            for fd in fds.values():
                os.close(fd)
            fds.clear()


def test_the_trace_is_worth_something(traced: Traced) -> None:
    """Enough records, of both kinds, in many segments, with maps of maps; every bookmark names its own record."""
    kinds = [type(record) for record in traced.history.records]
    assert min(kinds.count(Write), kinds.count(Zero)) > 80
    assert len(kinds) >= BOOKMARKS * (STEPS_BETWEEN + 1)
    assert len(list((traced.repository / "journal").glob("*.seg"))) > 64
    assert all(traced.history.records[seqno - 1] == Mark(name) for name, seqno in traced.bookmarks.items())


def test_from_the_server_that_took_the_writes(traced: Traced) -> None:
    server = traced.server
    assert_bookmarks(server.mountpoint, traced)
    assert_points(server.mountpoint, traced, 1)
    for volume, number in traced.ids.items():
        with opened(server.mountpoint / "live" / volume) as fd:
            assert pread_all(fd, SIZES[volume] + 1) == traced.history.state(traced.history.last_seqno)[number].content


@pytest.mark.parametrize("mode", ["verify", "kernel"])
def test_from_a_reader_beside_the_server(traced: Traced, mode: DataMode) -> None:
    beside = traced.server.mountpoint.with_name(f"beside-{mode}")
    with Mounted(traced.repository, beside, verb="mount", options=("--data", mode)) as reader:
        last = reader.mountpoint / "snaps/latest/a"
        assert os.getxattr(last, "user.vsnapfs.data") == mode.encode()
        assert_bookmarks(reader.mountpoint, traced)
        assert_points(reader.mountpoint, traced, 2)


def test_after_a_restart_in_the_mode_that_is_faster(traced: Traced) -> None:
    assert traced.server.stop() == 0
    with Mounted(traced.repository, traced.server.mountpoint, options=("--data", "auto")) as server:
        assert os.getxattr(server.mountpoint / "snaps/latest/a", "user.vsnapfs.data") == b"kernel"
        assert_bookmarks(server.mountpoint, traced)
        assert_points(server.mountpoint, traced, 6)
    traced.server.start()


def test_after_a_restart(traced: Traced) -> None:
    assert traced.server.stop() == 0
    traced.server.start()
    assert_bookmarks(traced.server.mountpoint, traced)
    assert_points(traced.server.mountpoint, traced, 3)


def test_after_catalog_and_maps_were_deleted(traced: Traced) -> None:
    assert traced.server.stop() == 0
    (traced.repository / "catalog.db").unlink()
    maps = list((traced.repository / "maps").iterdir())
    assert len(maps) > 8
    for path in maps:
        path.unlink()
    traced.server.start()
    assert_bookmarks(traced.server.mountpoint, traced)
    assert_points(traced.server.mountpoint, traced, 4)


def test_from_a_read_only_copy(traced: Traced, tmp_path: Path) -> None:
    """Copied beside the running server, and shown where the kernel refuses every change."""
    sh("cp", "-a", traced.repository, tmp_path / "copy")
    with (
        read_only_directory(tmp_path / "copy", tmp_path / "read-only") as copy,
        Mounted(copy, tmp_path / "mount", verb="mount") as reader,
    ):
        assert_bookmarks(reader.mountpoint, traced)
        assert_points(reader.mountpoint, traced, 5)
    shutil.rmtree(tmp_path / "copy")

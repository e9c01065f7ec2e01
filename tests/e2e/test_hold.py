"""A repository that is held for a bookmark over several: writes of its live volumes wait, nothing else does, and not for long."""

from __future__ import annotations

import os
import signal
import threading
import time
import uuid as uuids
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.processes import Mounted, children_of, make_repository
from tests.support.waiting import eventually
from vsnapfs.core.errors import NotFoundError, TimedOutError
from vsnapfs.daemon.client import Client, connect
from vsnapfs.daemon.requests import (
    BookmarkAdd,
    BookmarkList,
    FederatedHold,
    FederatedLetGo,
    FederatedReserve,
    GetStatus,
)

pytestmark = [pytest.mark.e2e, pytest.mark.requires_root, pytest.mark.requires_fuse]

PAGE = 4096
LONG_MS = 10_000
LONG_S = LONG_MS / 1000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Mounted]:
    with Mounted(make_repository(tmp_path / "repository", db="1M"), tmp_path / "mount") as server:
        yield server


@pytest.fixture
def client(server: Mounted) -> Client:
    return connect(server.repository)


def hold(client: Client, milliseconds: int) -> str:
    """Returns the id to let go by."""
    federation = str(uuids.uuid4())
    client.call(FederatedReserve(id=federation, name=f"b-{federation}", seconds=60))
    client.call(FederatedHold(id=federation, milliseconds=milliseconds))
    return federation


class Write:
    """One, with an fsync, in a thread; ``took_s`` when it is over."""

    def __init__(self, fd: int, byte: bytes) -> None:
        self.took_s: float | None = None
        self._fd = fd
        self._byte = byte
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def _write(self) -> None:
        began = time.monotonic()
        os.pwrite(self._fd, self._byte * PAGE, 0)
        os.fsync(self._fd)
        self.took_s = time.monotonic() - began

    def wait(self) -> float:
        self._thread.join(60)
        assert self.took_s is not None
        return self.took_s


@contextmanager
def opened(server: Mounted) -> Iterator[int]:
    fd = os.open(server.mountpoint / "live" / "db", os.O_RDWR)
    try:
        yield fd
    finally:
        os.close(fd)


def write_requests(client: Client) -> int:
    counts = client.call(GetStatus()).requests
    return counts["write"].requests if "write" in counts else 0


def waiting(client: Client, fd: int, byte: bytes) -> Write:
    """A write that has reached the server, and is not answered."""
    before = write_requests(client)
    write = Write(fd, byte)
    eventually(lambda: write_requests(client) > before, "the write at the server")
    assert write.took_s is None
    return write


def read_at_once(server: Mounted, fd: int) -> None:
    began = time.monotonic()
    assert os.pread(fd, PAGE, PAGE) == bytes(PAGE)
    assert (server.mountpoint / "snaps").is_dir()
    assert time.monotonic() - began < LONG_S - 1, "it waited for the end of the hold"


def test_writes_wait_and_nothing_else(server: Mounted, client: Client) -> None:
    with opened(server) as fd:
        Write(fd, b"a").wait()
        federation = hold(client, LONG_MS)
        held_seqno = client.call(GetStatus()).last_seqno
        write = waiting(client, fd, b"b")
        read_at_once(server, fd)
        client.call(BookmarkAdd(name="beside"))
        assert write.took_s is None
        client.call(FederatedLetGo(id=federation))
        write.wait()
        assert (server.mountpoint / "live" / "db").read_bytes()[:PAGE] == b"b" * PAGE
        [beside] = client.call(BookmarkList()).bookmarks
        assert beside.seqno == held_seqno + 1


def test_it_ends_by_itself(server: Mounted, client: Client) -> None:
    with opened(server) as fd:
        federation = hold(client, 300)
        Write(fd, b"a").wait()
        with pytest.raises(TimedOutError, match="ended before"):
            client.call(FederatedLetGo(id=federation))


def test_the_next_worker_begins_without(server: Mounted, client: Client) -> None:
    with opened(server) as fd:
        federation = hold(client, LONG_MS)
        write = waiting(client, fd, b"a")
        [worker] = children_of(server.pid)
        os.kill(worker, signal.SIGKILL)
        assert write.wait() < LONG_S - 1, "it waited for the end of a hold that nobody has"
        with pytest.raises(NotFoundError, match="being made"):
            client.call(FederatedLetGo(id=federation))
        assert (server.mountpoint / "live" / "db").read_bytes()[:PAGE] == b"a" * PAGE


def test_who_ends_lets_go(server: Mounted, client: Client) -> None:
    with opened(server) as fd:
        hold(client, LONG_MS)
        write = waiting(client, fd, b"a")
        os.kill(server.pid, signal.SIGTERM)
        assert write.wait() < LONG_S - 1, "it waited for the end of the hold"

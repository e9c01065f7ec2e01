"""Every way to ask for durability reaches the server, and what was asked for is in the journal and on the primary when it returns."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.devices import loop_device
from tests.support.files import opened
from tests.support.processes import Mounted, make_repository
from vsnapfs.core.state import Status
from vsnapfs.daemon.client import connect
from vsnapfs.daemon.requests import GetStatus

pytestmark = [pytest.mark.mount, pytest.mark.requires_fuse]

CALLS = 20
BLOCK = 4096


class Volume:
    """A live volume, what was written to it, and what the server says of its requests."""

    def __init__(self, server: Mounted, name: str) -> None:
        self.path = server.mountpoint / "live" / name
        self._client = connect(server.repository)
        (volume,) = self.status().volumes
        assert volume.primary_path is not None
        self.primary = Path(volume.primary_path)
        self.written = 0

    def status(self) -> Status:
        return self._client.call(GetStatus())

    def fsyncs(self) -> int:
        count = self.status().requests.get("fsync")
        return 0 if count is None else count.requests

    def next(self) -> tuple[int, bytes]:
        """Where to write next, and what."""
        self.written += 1
        return (self.written - 1) * BLOCK, bytes([self.written]) * BLOCK

    def assert_durable(self) -> None:
        """Now, without another sync: all of it is committed, applied, and readable from the primary itself."""
        status = self.status()
        assert status.committed_seqno == status.applied_seqno == status.last_seqno
        expected = b"".join(bytes([number]) * BLOCK for number in range(1, self.written + 1))
        assert self.primary.read_bytes()[: len(expected)] == expected


@pytest.fixture
def volume(tmp_path: Path, transport: str) -> Iterator[Volume]:
    repository = make_repository(tmp_path / "repository", v="1M")
    (repository / "vsnapfs.toml").write_text(f'[mount]\ntransport = "{transport}"\n')
    with Mounted(repository, tmp_path / "mount") as server:
        volume = Volume(server, "v")
        assert volume.status().transport == transport
        yield volume


@pytest.mark.parametrize("sync", [os.fsync, os.fdatasync])
def test_write_and_sync(volume: Volume, sync: object) -> None:
    assert callable(sync)
    before = volume.fsyncs()
    with opened(volume.path, os.O_RDWR) as fd:
        for _ in range(CALLS):
            offset, content = volume.next()
            assert os.pwrite(fd, content, offset) == BLOCK
            sync(fd)
            volume.assert_durable()
    assert volume.fsyncs() - before >= CALLS


@pytest.mark.parametrize("flag", [os.O_SYNC, os.O_DSYNC])
def test_writes_that_sync_themselves(volume: Volume, flag: int) -> None:
    before = volume.fsyncs()
    with opened(volume.path, os.O_RDWR | flag) as fd:
        for _ in range(CALLS):
            offset, content = volume.next()
            assert os.pwrite(fd, content, offset) == BLOCK
            volume.assert_durable()
    assert volume.fsyncs() - before >= CALLS


def test_a_store_through_mmap_and_msync(volume: Volume) -> None:
    before = volume.fsyncs()
    with opened(volume.path, os.O_RDWR) as fd, mmap.mmap(fd, 1 << 20) as memory:
        for _ in range(CALLS):
            offset, content = volume.next()
            memory[offset : offset + BLOCK] = content
            memory.flush(offset, BLOCK)
            volume.assert_durable()
    assert volume.fsyncs() - before >= CALLS


@pytest.mark.requires_root
def test_a_loop_device(volume: Volume) -> None:
    """A flush of the device, as a filesystem's journal asks for it, becomes an FSYNC."""
    before = volume.fsyncs()
    with loop_device(volume.path) as device, opened(device, os.O_RDWR) as fd:
        for _ in range(CALLS):
            offset, content = volume.next()
            assert os.pwrite(fd, content, offset) == BLOCK
            os.fsync(fd)
            volume.assert_durable()
    assert volume.fsyncs() - before >= CALLS


def test_a_sync_without_a_write_is_answered_too(volume: Volume) -> None:
    """ENOSYS would make the kernel never ask again (and never say so)."""
    before = volume.fsyncs()
    with opened(volume.path, os.O_RDWR) as fd:
        for _ in range(CALLS):
            os.fsync(fd)
    assert volume.fsyncs() - before >= CALLS

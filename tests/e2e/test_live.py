"""The writable file of a volume refuses and accepts what a disk does."""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path

import pytest

from tests.e2e.ground import MIB, program
from tests.support.devices import loop_device, sh
from tests.support.files import fallocate, opened
from tests.support.processes import Mounted, must, must_json

SIZE = 4 * MIB
KEEP_SIZE, PUNCH, COLLAPSE, ZERO_RANGE, INSERT = 0x01, 0x02, 0x08, 0x10, 0x20
OLD, NEW = b"old " * 1024, b"new " * 1024

pytestmark = [pytest.mark.e2e, pytest.mark.requires_root, pytest.mark.requires_fuse]


def du_bytes(path: Path) -> int:
    """What du says that a file takes."""
    return int(sh("du", "--block-size=1", path).split()[0])


@pytest.mark.parametrize("beyond_bytes", [0, 1, 512, SIZE, 1 << 50])
def test_a_write_at_or_past_the_end_finds_no_space(mount: Path, beyond_bytes: int) -> None:
    with opened(mount / "live/db", os.O_RDWR) as fd:
        with pytest.raises(OSError, match="No space") as caught:
            os.pwrite(fd, NEW, SIZE + beyond_bytes)
        assert caught.value.errno == errno.ENOSPC
        assert os.fstat(fd).st_size == SIZE


def test_past_the_cache_and_through_it_are_one_file(mount: Path) -> None:
    """Either way sees at once what was written the other way, also where the cache has the old bytes."""
    live = mount / "live/db"
    with (
        mmap.mmap(-1, 4096) as page,
        opened(live, os.O_RDWR) as cached,
        opened(live, os.O_RDWR | os.O_DIRECT) as direct,
    ):
        for number in range(1, 200):
            content = bytes([number]) * 4096
            if number % 2:
                assert os.pwrite(cached, content, 8192) == 4096
                assert os.preadv(direct, [page], 8192) == 4096
                assert page[:] == content
            else:
                page[:] = content
                assert os.pwrite(direct, page, 8192) == 4096
            assert os.pread(cached, 4096, 8192) == content


def test_a_write_across_the_end_goes_as_far_as_the_end(mount: Path) -> None:
    with opened(mount / "live/db", os.O_RDWR) as fd:
        assert os.pwrite(fd, NEW + NEW, SIZE - 4096) == 4096
        assert os.pread(fd, 8192, SIZE - 4096) == NEW


def test_dd_to_a_volume_ends_as_on_a_full_disk(mount: Path) -> None:
    done = program("dd", "if=/dev/zero", f"of={mount}/live/db", "bs=1M", "conv=notrunc")
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert f"{SIZE} bytes" in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("truncate", "--size=1M", "{}"),
        ("truncate", "--size=8M", "{}"),
        ("dd", "if=/dev/null", "of={}", "status=none"),
        ("rm", "--force", "{}"),
        ("mv", "{}", "{}2"),
    ],
    ids=["shorter", "longer", "O_TRUNC", "unlink", "rename"],
)
def test_name_and_size_are_the_commands_alone(server: Mounted, command: tuple[str, ...]) -> None:
    live = server.mountpoint / "live"
    done = program(*(word.format(live / "db") for word in command))
    assert done.returncode == 1
    assert "Operation not permitted" in done.stderr
    assert [line for line in server.log.splitlines() if "vsnapfs volume resize" in line]
    assert [(path.name, path.stat().st_size) for path in live.iterdir()] == [("db", SIZE)]


@pytest.mark.parametrize("mode", [PUNCH | KEEP_SIZE, ZERO_RANGE, ZERO_RANGE | KEEP_SIZE])
def test_a_punched_range_is_zeros_from_then_on(repository: Path, mount: Path, mode: int) -> None:
    with opened(mount / "live/db", os.O_RDWR) as fd:
        os.pwrite(fd, OLD * 256, 0)
        must(repository, "bookmark", "add", "before")
        fallocate(fd, mode, 64 << 10, 512 << 10)
        assert os.pread(fd, MIB, 0) == OLD * 16 + bytes(512 << 10) + OLD * 112
        must(repository, "bookmark", "add", "after")
    before, after = mount / "snaps/before/db", mount / "snaps/after/db"
    assert before.read_bytes() == OLD * 256 + bytes(SIZE - MIB)
    assert after.read_bytes() == OLD * 16 + bytes(512 << 10) + OLD * 112 + bytes(SIZE - MIB)
    assert (du_bytes(before), du_bytes(after)) == (MIB, MIB // 2)
    assert must_json(repository, "diff", "before", "after")["diffs"][0]["extents"] == [
        {"offset_bytes": 64 << 10, "length_bytes": 512 << 10, "zero": True}
    ]


def test_a_discard_of_a_loop_device_is_zeros_from_then_on(repository: Path, mount: Path) -> None:
    with loop_device(mount / "live/db") as device:
        device.write_bytes(OLD * 1024)
        sh("blockdev", "--flushbufs", device)
        must(repository, "bookmark", "add", "before")
        sh("blkdiscard", f"--length={2 * MIB}", device)
        must(repository, "bookmark", "add", "after")
    before, after = mount / "snaps/before/db", mount / "snaps/after/db"
    assert before.read_bytes() == OLD * 1024
    assert after.read_bytes() == bytes(2 * MIB) + OLD * 512
    assert (du_bytes(before), du_bytes(after)) == (4 * MIB, 2 * MIB)


@pytest.mark.parametrize("mode", [COLLAPSE, INSERT], ids=["collapse", "insert"])
def test_a_range_cannot_be_taken_out_or_put_in(mount: Path, mode: int) -> None:
    with opened(mount / "live/db", os.O_RDWR) as fd:
        os.pwrite(fd, NEW, 0)
        with pytest.raises(OSError, match="not supported") as caught:
            fallocate(fd, mode, 0, 4096)
        assert caught.value.errno == errno.EOPNOTSUPP
        assert os.pread(fd, 4096, 0) == NEW


def test_what_was_synced_is_in_the_journal_and_on_the_primary(repository: Path, mount: Path) -> None:
    primary = Path(must_json(repository, "volume", "list")["volumes"][0]["primary_path"])
    with opened(mount / "live/db", os.O_RDWR) as fd:
        os.pwrite(fd, NEW, 8192)
        os.fsync(fd)
        with opened(primary) as there:
            assert os.pread(there, 4096, 8192) == NEW
        status = must_json(repository, "status")
        assert status["committed_seqno"] == status["applied_seqno"] == status["last_seqno"] == 2
    assert (mount / "at/@2/db").read_bytes()[8192:12288] == NEW

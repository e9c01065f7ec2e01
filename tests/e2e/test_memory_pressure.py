"""A server with a filesystem on its own live volume, and too little memory for both.

While memory is wanted the kernel writes the filesystem's dirty pages to the volume, which asks the server for it. A server that waited for
memory then would wait for itself. Server and writer have a group with a limit each, as a service of systemd has: in one group of version 1
the kernel makes whoever wants memory wait for pages under writeback, the server for its own, unless it may be an I/O flusher.
"""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cgroups import MemoryGroup, has_memory_groups, memory_group
from tests.support.devices import loop_device, mounted, sh
from tests.support.processes import Mounted, make_repository, must, must_json
from tests.support.waiting import eventually

WRITER_S_MAX = 300

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.requires_root,
    pytest.mark.requires_fuse,
    pytest.mark.timeout(WRITER_S_MAX + 120),
    pytest.mark.skipif(not has_memory_groups(), reason="no memory cgroups"),
]

MIB = 1 << 20
FILES, FILE_BYTES = 16, 16 * MIB
WRITER_MAX_BYTES = 64 * MIB
SERVER_MORE_BYTES = 64 * MIB
"""What the server may take beyond what it has when the writer begins: batches, the index, and the page cache of what it
writes, which is four times as much."""

NO_LIMIT_BYTES = 1 << 40

WRITER = """if True:
    import os, random, sys
    directory, files, file_bytes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    for number in range(files):
        source = random.Random(number)
        with open(os.path.join(directory, str(number)), "wb") as file:
            for at in range(0, file_bytes, 1 << 16):
                file.write(source.randbytes(1 << 16))
            if number % 3 == 0:
                file.flush()
                os.fsync(file.fileno())
    os.sync()
    """


@pytest.fixture
def server_group() -> Iterator[MemoryGroup]:
    with memory_group("server") as group:
        yield group


@pytest.fixture
def writer_group() -> Iterator[MemoryGroup]:
    with memory_group("writer") as group:
        yield group


def expected() -> dict[str, str]:
    digests = {}
    for number in range(FILES):
        source, digest = random.Random(number), hashlib.sha256()
        for _ in range(FILE_BYTES >> 16):
            digest.update(source.randbytes(1 << 16))
        digests[str(number)] = digest.hexdigest()
    return digests


def found(directory: Path) -> dict[str, str]:
    files = [path for path in directory.iterdir() if path.is_file()]  # not lost+found
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def locked_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmLck:"))


def test_a_filesystem_on_its_own_volume(tmp_path: Path, server_group: MemoryGroup, writer_group: MemoryGroup) -> None:
    repository = make_repository(tmp_path / "repository", disk="512M")
    with Mounted(repository, tmp_path / "mount", within=server_group.enter) as server:
        status = must_json(repository, "status")
        assert status["memory"]["locked"]
        assert status["memory"]["kept"]
        assert locked_bytes(status["worker_pid"]) > 0
        assert {server.pid, status["worker_pid"]} <= set(server_group.pids())
        with loop_device(server.mountpoint / "live/disk") as device:
            sh("mkfs.ext4", "-q", device)
            with mounted(device, tmp_path / "disk") as disk:
                server_group.limit(server_group.used_bytes() + SERVER_MORE_BYTES)
                writer_group.limit(WRITER_MAX_BYTES)
                writer = [*writer_group.enter, sys.executable, "-c", WRITER, str(disk), str(FILES), str(FILE_BYTES)]
                subprocess.run(writer, check=True, timeout=WRITER_S_MAX)
                assert server_group.times_at_limit() > 0
                assert writer_group.times_at_limit() > 0
                must(repository, "bookmark", "add", "written")
                server_group.limit(NO_LIMIT_BYTES)
                assert "the worker died" not in server.log
                assert found(disk) == expected()
        assert json.loads(must(repository, "status", "--json"))["protected"]
        image = server.mountpoint / "snaps/written/disk"
        with (
            loop_device(image, read_only=True) as device,
            mounted(device, tmp_path / "disk", options="ro,noload") as disk,
        ):
            assert found(disk) == expected()
        eventually(lambda: not must_json(repository, "status")["open_files"], "the volumes are closed")

"""A server finds damage by itself, says so, and what it costs; a reader's mount looks for none."""

from __future__ import annotations

import ctypes
import os
import platform
import random
from pathlib import Path

import pytest

from tests.e2e.ground import serving, shown
from tests.support.files import opened
from tests.support.processes import must_json, run
from tests.support.waiting import eventually
from vsnapfs.repository.repository import Repository

DEGRADED = 8
IDLE = 3
SYS_IOPRIO_GET = {"x86_64": 252, "aarch64": 31}

pytestmark = [pytest.mark.e2e, pytest.mark.requires_root]


@pytest.fixture
def made(tmp_path: Path) -> Path:
    path, image = tmp_path / "made", tmp_path / "image"
    Repository.create(path)
    (path / "vsnapfs.toml").write_text('[journal]\nsegment_size = "64K"\n[check]\nscrub = "1s"\n')
    with Repository.open(path, owner=True) as repository:
        for number in range(4):
            image.write_bytes(random.Random(number).randbytes(128 << 10))
            repository.import_images({"db": image}, f"b{number}")
    return path


def test_a_running_server_finds_damage_and_says_so(made: Path, tmp_path: Path) -> None:
    segment = sorted((made / "journal").glob("*.seg"))[1]
    with serving(made, tmp_path / "mount") as server:
        eventually(lambda: must_json(made, "status")["scrub"]["last_ended"], "a pass")
        line = next(line for line in run(made, "status").stdout.splitlines() if line.startswith("scrub:"))
        assert "everything in 1 s" in line
        assert "nothing damaged" in line
        assert has_idle_thread(must_json(made, "status")["worker_pid"])
        flip(segment, 20 * 4096 + 5)
        eventually(lambda: run(made, "status").returncode == DEGRADED, "status to say so")
        said = run(made, "status").stdout
        assert "protected:  NO" in said
        assert f"journal/{segment.name} is damaged at byte {20 * 4096}" in said
        assert "costs b1/db" in said
        assert "the scrub found damage" in server.log
        flip(segment, 20 * 4096 + 5)
        eventually(lambda: run(made, "status").returncode == 0, "status to say that it is gone")
        flip(segment, 20 * 4096 + 5)
        eventually(lambda: run(made, "status").returncode == DEGRADED, "status to say so again")
    assert f"journal/{segment.name} is damaged" in run(made, "status").stdout, "it is known without a server too"


def test_a_reader_does_not_scrub(made: Path, tmp_path: Path) -> None:
    with shown(made, tmp_path / "mount") as mountpoint:
        assert (mountpoint / "snaps/b1/db").stat().st_size == 128 << 10
    assert not (made / "scrub.json").exists()


def flip(path: Path, at: int) -> None:
    """One bit, in place: who reads meanwhile sees the one or the other, and no file that is cut short."""
    with opened(path, os.O_RDWR) as fd:
        (byte,) = os.pread(fd, 1, at)
        os.pwrite(fd, bytes([byte ^ 1]), at)


def has_idle_thread(pid: int) -> bool:
    number = SYS_IOPRIO_GET.get(platform.machine())
    if number is None:
        return True  # the machine's number of the call is not known here
    libc = ctypes.CDLL(None)
    return IDLE in {libc.syscall(number, 1, int(thread)) >> 13 for thread in os.listdir(f"/proc/{pid}/task")}

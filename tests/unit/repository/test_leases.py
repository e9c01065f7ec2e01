"""Which points are open, by whoever has them open: locks of other open files, in this process and in another."""

from __future__ import annotations

import fcntl
import os
import random
import struct
import subprocess
import sys
from pathlib import Path

from vsnapfs.repository.layout import Layout
from vsnapfs.repository.leases import POINTS_END, leased

LOCK = """
import fcntl, os, struct, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
for byte in sys.argv[2:]:
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, int(byte), 1, 0))
print("locked", flush=True)
sys.stdin.read()
"""


def take(fd: int, byte: int) -> None:
    asked = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, byte, 1, 0)
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, asked)


def test_without_the_file_nobody_has_any(path: Path) -> None:
    layout = Layout(path)
    (path / "leases").unlink(missing_ok=True)
    assert leased(layout) == []
    layout.close()


def test_those_of_every_open_file_are_found(path: Path) -> None:
    layout = Layout(path)
    file = path / "leases"
    file.touch(0o600)
    rng = random.Random(5)
    held = [os.open(file, os.O_RDONLY) for _ in range(3)]
    expected: set[int] = set()
    for fd in held:
        for point in [*rng.sample(range(1, 200), 30), rng.randrange(1 << 40), POINTS_END - 1]:
            take(fd, point)
            expected.add(point)
        take(fd, POINTS_END + rng.randrange(5))
    assert leased(layout) == sorted(expected)
    for fd in held:
        os.close(fd)
    assert leased(layout) == []
    layout.close()


def test_those_of_another_process_end_with_it(path: Path) -> None:
    layout = Layout(path)
    (path / "leases").touch(0o600)
    arguments = [sys.executable, "-c", LOCK, str(path / "leases"), "7", "9"]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        assert leased(layout) == [7, 9]
        other.kill()
        other.wait()
    assert leased(layout) == []
    layout.close()

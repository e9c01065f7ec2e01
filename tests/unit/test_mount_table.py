"""The kernel's table of mounts, whatever somebody has called a directory that they have mounted something on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vsnapfs.core.kernel_text import lines
from vsnapfs.mounts import table
from vsnapfs.quiesce import ground
from vsnapfs.repository import primary

pytestmark = pytest.mark.unit

NAMES = ["a\rb", "a\x0bb", "a\x0cb", "a\x1cb", "a\x85b", "a\u2028b", "a\u00a0b", "a\\012b", "a\\040b"]


@pytest.fixture
def mountinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """For all who read it: a mount for each of the names, which is its point and its source, and one behind them."""
    path = tmp_path / "mountinfo"
    rows = [
        f"{number} 1 0:{number} / /mnt/{name} rw - fuse.{number} {name} rw\n" for number, name in enumerate(NAMES, 100)
    ]
    path.write_bytes("".join([*rows, "9 1 0:9 / /mnt/last rw - ext4 /dev/nosuch rw\n"]).encode())
    for module in (table, ground, primary):
        monkeypatch.setattr(module, "MOUNTS", path)
    return path


def plain(name: str) -> str:
    return name.replace("\\012", "\n").replace("\\040", " ")


def test_every_line_is_one_mount(mountinfo: Path) -> None:
    expected = [*(f"/mnt/{plain(name)}" for name in NAMES), "/mnt/last"]
    assert [entry.path for entry in table.mounts()] == expected
    assert [entry.point for entry in ground.mounts()] == expected
    assert [entry.source for entry in table.mounts()][:-1] == [plain(name) for name in NAMES]
    assert [entry.source for entry in ground.mounts()][:-1] == [plain(name) for name in NAMES]


def test_a_device_is_found_among_them(mountinfo: Path) -> None:
    for number, name in enumerate(NAMES, 100):
        assert primary._mountpoint(os.makedev(0, number)) == f"/mnt/{plain(name)}"
    assert primary._mountpoint(os.makedev(0, 9)) == "/mnt/last"
    assert primary._mountpoint(os.makedev(0, 8)) is None


def test_what_is_no_text_is_kept() -> None:
    assert [os.fsencode(line) for line in lines(b"a\xffb\nc\n")] == [b"a\xffb", b"c"]
    assert lines(b"") == []

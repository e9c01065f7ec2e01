"""Whoever mounts something chooses its path: none makes a line of mountinfo of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vsnapfs.mounts import table
from vsnapfs.quiesce import ground
from vsnapfs.repository import primary

pytestmark = pytest.mark.unit

ODD = ["a\rb", "a\x0bb", "a\x0cb", "a\x1cb", "a\x85b", "a\u2028b", "a\udcffb", r"a\012b\040c"]


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mount at each odd path, and at last one that is looked for, of the filesystem that temporary files are on."""
    device = os.stat(tmp_path).st_dev
    lines = [f"{10 + n} 1 0:{90 + n} / /mnt/{odd} rw - tmpfs {odd} rw\n" for n, odd in enumerate(ODD)]
    lines.append(f"99 1 {os.major(device)}:{os.minor(device)} / /last rw - xfs.x /dev/null rw\n")
    file = tmp_path / "mountinfo"
    file.write_bytes("".join(lines).encode("utf-8", "surrogateescape"))
    for module in (table, ground, primary):
        monkeypatch.setattr(module, "MOUNTS", file)


@pytest.mark.usefixtures("told")
def test_every_reader_of_it(tmp_path: Path) -> None:
    shown = [odd.replace(r"\012", "\n").replace(r"\040", " ") for odd in ODD]
    assert [entry.path for entry in table.mounts()] == [*(f"/mnt/{odd}" for odd in shown), "/last"]
    assert [entry.source for entry in table.mounts()] == [*shown, "/dev/null"]
    assert [mount.point for mount in ground.mounts()] == [*(f"/mnt/{odd}" for odd in shown), "/last"]
    file = tmp_path / "mountinfo"
    with file.open() as opened:
        assert primary._filesystem_of(opened.fileno()) == "xfs"
    assert primary._mountpoint(file.stat().st_dev) == "/last"

"""What tests at the level of the command stand on: commands that have to fail, servers that have to answer, programs."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.processes import Mounted, run
from tests.support.waiting import eventually

MIB = 1 << 20


def refused(repository: Path | None, status: int, *args: str | Path) -> str:
    """Run a command that has to fail with this exit status, print nothing, and say why in one line; returns the line."""
    done = run(repository, *args)
    said = f"vsnapfs {' '.join(map(str, args))}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    assert done.returncode == status, said
    assert done.stdout == "", said
    lines = done.stderr.splitlines()
    assert len(lines) == 1, said
    assert lines[0].startswith("vsnapfs: "), said
    return lines[0]


@contextlib.contextmanager
def serving(repository: Path, mountpoint: Path) -> Iterator[Mounted]:
    """A server that answers by mount and by socket; it has to end cleanly."""
    with Mounted(repository, mountpoint) as server:
        eventually(lambda: f"serving {repository} at {mountpoint}\n" in server.log, "the server to serve")
        yield server


@contextlib.contextmanager
def shown(repository: Path, mountpoint: Path) -> Iterator[Path]:
    """The mount of a reader without a server."""
    with Mounted(repository, mountpoint, verb="mount", options=("--foreground",)):
        yield mountpoint


def program(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run some other program in the C locale, whatever its exit status."""
    return subprocess.run(
        [str(word) for word in words],
        env=os.environ | {"LC_ALL": "C"}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def small_segments(repository: Path) -> None:
    """Let a segment be sealed when it has grown past 64 KiB, the least that can be chosen."""
    (repository / "vsnapfs.toml").write_text('[journal]\nsegment_size = "64K"\n')

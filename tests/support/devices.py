"""Loop devices and filesystem mounts that are gone when the block is left, whatever happened in it."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.processes import umount, unmount
from tests.support.waiting import eventually


def sh(*command: str | Path, timeout_s: float = 60.0) -> str:
    """Run a program that has to exit 0; returns what it printed."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=timeout_s, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


@contextlib.contextmanager
def loop_device(path: Path, *, read_only: bool = False, sector_bytes: int = 512) -> Iterator[Path]:
    """A loop device on a file, through the page cache (no direct I/O), as `losetup` makes it by default."""
    flags = ["--read-only"] if read_only else []
    device = Path(
        sh("losetup", "--find", "--show", "--direct-io=off", f"--sector-size={sector_bytes}", *flags, path).strip()
    )
    ours = _backing(device)
    try:
        yield device
    finally:
        sh("losetup", "--detach", device)
        eventually(lambda: _backing(device) != ours, f"{device} detached")  # somebody else may have it already


def _backing(device: Path) -> str:
    path = Path("/sys/block") / device.name / "loop/backing_file"
    try:
        return path.read_text()
    except OSError:
        return ""


@contextlib.contextmanager
def mounted(source: Path, directory: Path, *, options: str = "defaults", kind: str | None = None) -> Iterator[Path]:
    """A filesystem mounted on a directory, which is made if need be."""
    directory.mkdir(exist_ok=True)
    types = ["-t", kind] if kind else []
    sh("mount", *types, "-o", options, source, directory)
    try:
        yield directory
    except BaseException:
        unmount(directory)
        raise
    else:
        umount(directory)


@contextlib.contextmanager
def read_only_directory(source: Path, directory: Path) -> Iterator[Path]:
    """The same directory at a second place, where the kernel refuses every change."""
    directory.mkdir()
    sh("mount", "--bind", source, directory)
    try:
        sh("mount", "-o", "remount,ro,bind", directory)
        yield directory
    finally:
        unmount(directory)

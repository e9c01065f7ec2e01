"""Other programs that show a file through FUSE."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.servers import running

URING_SWITCH = Path("/sys/module/fuse/parameters/enable_uring")


@contextmanager
def pyfuse3_file(file: Path, mountpoint: Path) -> Iterator[Path]:
    """The file as the pyfuse3 pass-through shows it."""
    mountpoint.mkdir()
    with running([sys.executable, "-m", "benchmarks.pyfuse3_file", file, mountpoint], mountpoint, ends_by_umount=True):
        yield mountpoint / "volume"


@contextmanager
def passthrough_hp(program: Path, directory: Path, mountpoint: Path, *options: str) -> Iterator[Path]:
    """A directory as libfuse's example shows it: C and threads, each request answered by the process.

    It opens the files below as they are opened above: with O_DIRECT, past the kernel's cache here and there.
    """
    mountpoint.mkdir()
    command: list[str | Path] = [program, "--foreground", "--nopassthrough", *options, directory, mountpoint]
    with running(command, mountpoint, ends_by_umount=True):
        yield mountpoint


@contextmanager
def qemu_export(image: Path, shown: Path, *, writable: bool = False) -> Iterator[Path]:
    """A qcow2 image as qemu-storage-daemon's FUSE export shows it: as a raw file over the file ``shown``."""
    shown.touch()
    node = f"driver=qcow2,node-name=disk,read-only={_on(not writable)},file.driver=file,file.filename={image}"
    export = f"type=fuse,id=export,node-name=disk,mountpoint={shown},writable={_on(writable)}"
    command = ["qemu-storage-daemon", "--blockdev", node, "--export", export]
    with running(command, shown, ends_by_umount=False):
        yield shown


def _on(flag: bool) -> str:
    return "on" if flag else "off"


@contextmanager
def uring_enabled() -> Iterator[bool]:
    """FUSE over io_uring is allowed for new mounts, if we may allow it; as before afterwards. Yields whether it is."""
    try:
        before = URING_SWITCH.read_text()
        URING_SWITCH.write_text("1")
    except OSError:  # an older kernel, or not root
        yield False
        return
    try:
        yield True
    finally:
        URING_SWITCH.write_text(before)

"""Programs that show a file or a tree, started for a measurement and ended after it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

READY_S_MAX = 60.0
END_S_MAX = 60.0
POLL_S = 0.0005

VSNAPFS = [sys.executable, "-m", "vsnapfs.cli"]


def is_mounted(path: Path) -> bool:
    """True if another filesystem begins at path, a directory or a file."""
    return path.stat().st_dev != path.parent.stat().st_dev


@contextmanager
def running(
    command: Sequence[str | Path], mountpoint: Path, *, ends_by_umount: bool
) -> Iterator[subprocess.Popen[bytes]]:
    """The program, from when its mount answers until it has ended, of itself after an umount or by SIGTERM.

    Raises: RuntimeError: it ended before it was ready. TimeoutError: it never got ready.
    """
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=said)
        try:
            _wait_ready(process, mountpoint)
            yield process
        except BaseException as error:
            said.seek(0)
            error.add_note(f"{process.args!r} said: {said.read().decode(errors='replace')}")
            raise
        finally:
            _end(process, mountpoint, ends_by_umount=ends_by_umount)


def _end(process: subprocess.Popen[bytes], mountpoint: Path, *, ends_by_umount: bool) -> None:
    if not ends_by_umount:
        process.terminate()
    elif process.poll() is None:
        subprocess.run(["umount", "--lazy", str(mountpoint)], check=True)
    try:
        process.wait(END_S_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


def _wait_ready(process: subprocess.Popen[bytes], mountpoint: Path) -> None:
    deadline = time.monotonic() + READY_S_MAX
    while not is_mounted(mountpoint):
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode} before its mount was there")
        if time.monotonic() > deadline:
            raise TimeoutError(f"{mountpoint} is not there after {READY_S_MAX} s")
        time.sleep(POLL_S)


def vsnapfs(repository: Path, *arguments: str | Path) -> None:
    """Run a vsnapfs command to its end."""
    words = [str(word) for word in arguments]
    subprocess.run([*VSNAPFS, "-r", str(repository), *words], check=True, stdout=subprocess.DEVNULL)


@contextmanager
def vsnapfs_at(repository: Path, mountpoint: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """``vsnapfs serve``, or ``vsnapfs mount --foreground``."""
    mountpoint.mkdir(exist_ok=True)
    words: list[str | Path] = [*VSNAPFS, "-r", repository, *command, mountpoint]
    with running(words, mountpoint, ends_by_umount=True) as process:
        yield process


@contextmanager
def passthrough(file: Path, mountpoint: Path) -> Iterator[Path]:
    """The file as the pyfuse3 pass-through shows it."""
    mountpoint.mkdir()
    with running([sys.executable, "-m", "benchmarks.passthrough", file, mountpoint], mountpoint, ends_by_umount=True):
        yield mountpoint / "volume"


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


def memory_bytes(pid: int) -> dict[str, int]:
    """The process's ``VmRSS``, ``VmHWM``, ``RssAnon`` … in bytes."""
    text = Path(f"/proc/{pid}/status").read_text()
    rows = (line.split() for line in text.splitlines() if line.endswith(" kB"))
    return {name.rstrip(":"): int(kib) * 1024 for name, kib, _ in rows}


def drop_cache_of(file: Path) -> None:
    """Make the kernel forget what it holds of the file; what lies below the file keeps its own cache."""
    fd = os.open(file, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)

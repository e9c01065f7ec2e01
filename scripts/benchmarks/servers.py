"""Programs that show a file or a tree, started for a measurement and ended after it; above all, our own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

READY_S_MAX = 60.0
END_S_MAX = 60.0
POLL_S = 0.0005
WRONG_USAGE = 2
"""The exit status of vsnapfs for what it does not know."""

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


def vsnapfs_json(repository: Path, *arguments: str) -> Any:
    """The object that a vsnapfs command printed. Whatever its exit status: ``status`` fails where protection does."""
    command = [*VSNAPFS, "-r", str(repository), *arguments, "--json"]
    return json.loads(subprocess.run(command, check=False, capture_output=True, text=True).stdout)


def has_option(command: str, option: str) -> bool:
    """Does this vsnapfs command know this option?"""
    done = subprocess.run([*VSNAPFS, command, "--help"], check=True, capture_output=True, text=True)
    return option in done.stdout.split()


def mounted_data(mode: str) -> tuple[str, ...]:
    """The options of ``vsnapfs mount`` for a data mode; none where there is but one."""
    return ("--data", mode) if has_option("mount", "--data") else ()


def takes_settings(repository: Path, settings: str) -> bool:
    """Write the repository's settings; False, with the ones before left in place, if this vsnapfs does not know one."""
    file = repository / "vsnapfs.toml"
    before = file.read_text() if file.exists() else ""
    file.write_text(settings)
    words = [*VSNAPFS, "-r", str(repository), "status"]
    known = subprocess.run(words, check=False, capture_output=True).returncode != WRONG_USAGE
    if not known:
        file.write_text(before)
    return known


def memory_bytes(process: subprocess.Popen[bytes]) -> dict[str, int]:
    """``VmRSS``, ``VmHWM``, ``RssAnon`` … in bytes, of the process and all that it has started, together."""
    total: Counter[str] = Counter()
    for text in _family(process.pid):
        rows = (line.split() for line in text.splitlines() if line.endswith(" kB"))
        total.update({name.rstrip(":"): int(kib) * 1024 for name, kib, _ in rows})
    return total


def _family(pid: int) -> Iterator[str]:
    """What the kernel tells of a process and of all that it has started; of one that ends meanwhile, nothing."""
    try:
        yield Path(f"/proc/{pid}/status").read_text()
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return
    for task in tasks:
        try:
            children = (task / "children").read_text().split()
        except (FileNotFoundError, ProcessLookupError):  # a thread that has ended
            continue
        for child in children:
            yield from _family(int(child))


def drop_cache_of(file: Path) -> None:
    """Make the kernel forget what it holds of the file; what lies below the file keeps its own cache."""
    fd = os.open(file, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)

"""A clock that tests move, for programs they start (preload_clock.c)."""

from __future__ import annotations

import mmap
import os
import struct
import subprocess
import time
from pathlib import Path
from typing import Self

from vsnapfs.core.times import NS_PER_S

SOURCE = Path(__file__).with_name("preload_clock.c")
BUILD_S = 60


class Clock:
    """Ahead of the real one by what was added. ``environment``: of a program that shall live by it. A context manager."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "clock"
        self._library = directory / "preload_clock.so"
        self._file.write_bytes(bytes(mmap.PAGESIZE))
        command: list[str | Path] = [
            "gcc",
            "-O2",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-shared",
            "-fPIC",
            "-o",
            self._library,
            SOURCE,
        ]
        subprocess.run(command, check=True, timeout=BUILD_S)
        with self._file.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        self._ahead_ns = 0
        self._set_ns = 0

    def environment(self) -> dict[str, str]:
        return {"LD_PRELOAD": os.fspath(self._library), "VSNAPFS_TEST_CLOCK": os.fspath(self._file)}

    def advance(self, seconds: float) -> None:
        self._ahead_ns += int(seconds * NS_PER_S)
        self._tell()

    def jump(self, seconds: float) -> None:
        """Set the wall clock, forward or back: no time passes by that."""
        self._set_ns += int(seconds * NS_PER_S)
        self._tell()

    def now_ns(self) -> int:
        return time.time_ns() + self._ahead_ns + self._set_ns

    def _tell(self) -> None:
        self._shared[:16] = struct.pack("=qq", self._ahead_ns, self._set_ns)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._shared.close()

"""fio, for what it measures better than a loop of ours."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

Load = Callable[[Path], float]
"""Measures one file; returns a rate a second."""

BLOCK = ["--bs=4k", "--ioengine=psync", "--thread", "--group_reporting", "--output-format=json"]


def run(files: Sequence[Path], kind: Literal["read", "write"], seconds: float, options: list[str]) -> float:
    """4 KiB requests at random places of existing files, by one job for each; a file may stand there several times.

    Returns: requests a second, of all jobs together. Raises: CalledProcessError: fio failed, or a request did.
    """
    command = ["fio", f"--rw=rand{kind}", *BLOCK, *options]
    command += ["--time_based", f"--runtime={int(seconds * 1000)}ms", "--fallocate=none"]
    for number, file in enumerate(files, 1):
        command += [f"--name=job{number}", f"--filename={file}", f"--randseed={number}"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    report = json.loads(done.stdout[done.stdout.index("{") :])
    return float(report["jobs"][0][kind]["iops"])


def random_reads(files: Sequence[Path], seconds: float, *, every_bytes: int = 4096) -> float:
    """Past the kernel's cache of the files. every_bytes: each request begins at a multiple of it."""
    return run(files, "read", seconds, ["--readonly", "--direct=1", f"--blockalign={every_bytes}"])


def cached_random_reads(files: Sequence[Path], seconds: float) -> float:
    """Out of the kernel's cache, if the files are in it."""
    return run(files, "read", seconds, ["--readonly", "--invalidate=0", "--norandommap"])


def random_writes(files: Sequence[Path], seconds: float) -> float:
    """Past the kernel's cache of the files, as far as the mount is concerned."""
    return run(files, "write", seconds, ["--direct=1", "--allow_file_create=0"])


def durable_writes(files: Sequence[Path], seconds: float) -> float:
    """An fsync after each write."""
    return run(files, "write", seconds, ["--fsync=1", "--allow_file_create=0"])

"""fio, for what it measures better than a loop of ours."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Literal

BLOCK = ["--bs=4k", "--ioengine=psync", "--thread", "--group_reporting", "--output-format=json"]


def run(file: Path, kind: Literal["read", "write"], seconds: float, jobs: int, options: list[str]) -> float:
    """4 KiB requests at random places of an existing file. Returns: requests a second.

    Raises: CalledProcessError: fio failed, or a request did.
    """
    command = ["fio", f"--name={kind}", f"--filename={file}", f"--rw=rand{kind}", f"--numjobs={jobs}", *BLOCK]
    command += ["--time_based", f"--runtime={int(seconds * 1000)}ms", "--fallocate=none", *options]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    report = json.loads(done.stdout[done.stdout.index("{") :])
    return float(report["jobs"][0][kind]["iops"])


def random_reads(file: Path, seconds: float, jobs: int) -> float:
    """Past the kernel's cache of the file."""
    return run(file, "read", seconds, jobs, ["--readonly", "--direct=1"])


def durable_writes(file: Path, seconds: float, jobs: int) -> float:
    """An fsync after each write."""
    return run(file, "write", seconds, jobs, ["--fsync=1", "--allow_file_create=0"])

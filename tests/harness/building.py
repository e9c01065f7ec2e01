"""Builds the C programs of this directory, once a process and way of building, and runs them."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import tempfile
from atexit import register
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BUILD_S = 900
RUN_S = 1200
SANITIZED = "address,undefined"
PLAIN = "none"
SANITIZER_OPTIONS = {"ASAN_OPTIONS": "detect_leaks=0:quarantine_size_mb=16", "UBSAN_OPTIONS": "print_stacktrace=1"}
"""Leaks are counted by those who look for them: their own look would take longer than a whole state."""


@functools.cache
def _out(sanitize: str) -> Path:
    """Where everything of one way of building goes; it goes with the process."""
    out = Path(tempfile.mkdtemp(prefix="vsnapfs-harness-"))
    register(shutil.rmtree, out, ignore_errors=True)
    return out


@functools.cache
def built(program: str, sanitize: str = PLAIN) -> Path:
    """The path of a program. Raises: AssertionError: it cannot be built."""
    target = _out(sanitize) / program
    command = ["make", "-s", "-j2", f"OUT={target.parent}", "CC=gcc", f"SANITIZE={sanitize}", str(target)]
    done = subprocess.run(
        command, check=False, cwd=HERE, capture_output=True, text=True, timeout=BUILD_S, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr
    return target


def result(program: str, *args: str, sanitize: str = PLAIN) -> dict[str, Any]:
    """Run it to its end; the object that its last line is. It must have failed in nothing."""
    done = subprocess.run(
        [str(built(program, sanitize)), *args],
        env=os.environ | SANITIZER_OPTIONS, check=False, capture_output=True, text=True, timeout=RUN_S,
    )  # fmt: skip
    assert done.returncode == 0, f"{program} {' '.join(args)}: status {done.returncode}\n{done.stdout}{done.stderr}"
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert found["failures"] == 0
    return found

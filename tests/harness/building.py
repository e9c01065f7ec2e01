"""Builds the C programs of this directory for tests, once a session and way of building, and runs them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BUILD_S = 900
RUN_S = 900
SANITIZER_OPTIONS = {"ASAN_OPTIONS": "detect_leaks=0:quarantine_size_mb=16", "UBSAN_OPTIONS": "print_stacktrace=1"}
"""Leaks are counted by those who look for them: their own look would take longer than a whole state."""


def build(out: Path, program: str, sanitize: str = "address,undefined") -> Path:
    """Make one program; what stands in ``out`` of an earlier call with the same ``sanitize`` is used again."""
    target = out / program
    command = ["make", "-s", "-j2", "-C", str(HERE), f"OUT={out}", "CC=gcc", f"SANITIZE={sanitize}", str(target)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=BUILD_S)
    assert done.returncode == 0, done.stderr
    return target


def result(program: Path, *args: str) -> dict[str, Any]:
    """Run it to its end; the object that it printed. It must have failed in nothing."""
    done = subprocess.run(
        [str(program), *args],
        env=os.environ | SANITIZER_OPTIONS, check=False, capture_output=True, text=True, timeout=RUN_S,
    )  # fmt: skip
    assert done.returncode == 0, (
        f"{program.name} {' '.join(args)}: status {done.returncode}\n{done.stdout}{done.stderr}"
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert found["failures"] == 0
    return found

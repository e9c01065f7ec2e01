"""The programs of tests/harness, built and run for whoever needs one."""

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

HARNESS = Path(__file__).parents[1] / "harness"
BUILD_S = 600


@functools.cache
def built(name: str, sanitize: str = "none") -> Path:
    """The path of a program, built once a process, in a directory that goes with it."""
    out = Path(tempfile.mkdtemp(prefix=f"{name}-"))
    register(shutil.rmtree, out, ignore_errors=True)
    command = ["make", "-j2", f"OUT={out}", f"SANITIZE={sanitize}", str(out / name)]
    done = subprocess.run(command, check=False, cwd=HARNESS, capture_output=True, text=True, timeout=BUILD_S)
    assert done.returncode == 0, done.stderr
    return out / name


def shown(name: str, *arguments: str, sanitize: str = "none", timeout_s: float = 300.0) -> Any:
    """Run a harness, which must not fail; returns what its last line says."""
    command = [str(built(name, sanitize)), *arguments]
    environment = os.environ | {"UBSAN_OPTIONS": "print_stacktrace=1"}
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=timeout_s)
    assert done.returncode == 0, f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    print(done.stdout, end="")
    return json.loads(done.stdout.splitlines()[-1])

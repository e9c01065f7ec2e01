"""The command line with the n-th call on files of a repository failing, many times without starting an interpreter anew.

``FaultyCommands`` starts one process under the shim (preload_faults.c), which loads the command and then forks for each
run: the child arms the shim, runs the command as ``vsnapfs ARGS`` does, and ends as it ends.

``python -m tests.support.fault_commands`` is that process: lines of JSON on standard input and output.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, Self

from tests.support.processes import environment

SOURCE = Path(__file__).with_name("preload_faults.c")
RUN_S = 60
LOADED = (
    "vsnapfs.repository.repository",
    *(f"vsnapfs.cli.{name}" for name in ("bookmark", "check", "export", "import_", "init", "main", "volume")),
)
"""Before the first fork."""


class Ran(NamedTuple):
    """``status``: exit status, negative for a signal. ``calls``: how many were counted. ``struck``: the first that failed."""

    status: int
    stdout: str
    stderr: str
    calls: int
    struck: str


def build(directory: Path) -> Path:
    library = directory / "preload_faults.so"
    command = ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True, timeout=RUN_S)
    return library


class FaultyCommands:
    """Context manager; ends its process. Runs are one at a time."""

    def __init__(self, library: Path) -> None:
        # What stands in sys.executable may be a script around the interpreter, which a library cannot be loaded into.
        interpreter = os.path.realpath("/proc/self/exe")
        env = environment() | {"LD_PRELOAD": str(library), "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        self._process = subprocess.Popen(
            [interpreter, "-m", "tests.support.fault_commands"],
            env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
        )  # fmt: skip

    def run(self, below: Path, call: int, count: int, error: int, *args: str | Path) -> Ran:
        """Run a command with calls ``call`` to ``call + count - 1`` on files below a path failing with ``error``."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        wanted = {"below": str(below), "call": call, "count": count, "error": error, "args": [str(arg) for arg in args]}
        self._process.stdin.write(json.dumps(wanted) + "\n")
        self._process.stdin.flush()
        return Ran(**json.loads(self._process.stdout.readline()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:  # closes both ends, and waits
            pass
        assert self._process.returncode == 0


def _child(shim: ctypes.CDLL, wanted: dict[str, object], out: int, err: int) -> None:
    """Never returns."""
    from vsnapfs.cli.main import main

    signal.alarm(RUN_S)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (out, 1), (err, 2)):
        os.dup2(source, target)
    sys.argv = ["vsnapfs", *wanted["args"]]  # type: ignore[misc]
    status = 0
    shim.vsnapfs_fault_arm(str(wanted["below"]).encode(), wanted["call"], wanted["count"], wanted["error"])
    try:
        main()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except Exception as error:  # noqa: BLE001 (what a user would see as a traceback)
        sys.stderr.write(f"Traceback: {error!r}\n")
        status = 120
    shim.vsnapfs_fault_arm(b"", 0, 0, 0)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _serve() -> None:
    for module in LOADED:
        import_module(module)
    shim = ctypes.CDLL(None)
    shim.vsnapfs_fault_arm.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int, ctypes.c_int]
    shim.vsnapfs_fault_calls.restype = ctypes.c_long
    shim.vsnapfs_fault_struck.restype = ctypes.c_char_p
    for line in sys.stdin:
        shim.vsnapfs_fault_progress()
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            child = os.fork()
            if child == 0:
                _child(shim, json.loads(line), out.fileno(), err.fileno())
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            said = [os.pread(file.fileno(), 1 << 20, 0).decode("utf-8", "replace") for file in (out, err)]
        calls, struck = shim.vsnapfs_fault_calls(), shim.vsnapfs_fault_struck().decode()
        print(json.dumps(Ran(status, said[0], said[1], calls, struck)._asdict()), flush=True)


if __name__ == "__main__":
    _serve()

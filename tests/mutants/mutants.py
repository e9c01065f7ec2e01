"""Durability mutants: our own code with a promise taken out, each as a patch that one named test has to notice.

A patch begins with what was taken out, in words, and a line ``killed-by: KIND NAME``:

  killed-by: harness crash_states            a program of tests/harness, as much of it as the tests run
  killed-by: native test_journal             a program of tests/native
  killed-by: pytest tests/unit/x.py::name    a test of Python code

A mutant that is not killed is a promise that nobody watches.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec

from tests.soak.harnesses import HARNESSES, TOP

PATCHES = Path(__file__).parent
COPIED = ("native", "tests", "vsnapfs", "scripts", "pyproject.toml", "setup.py", "docs", "README.md")
SEED = 1
PLACED = {"damage", "fault_points"}
"""Harnesses that make a directory of their own, in memory; a mutant that ends one by force leaves it."""
KILL_S = 120
"""A mutant that makes its test hang is killed too."""
WHOLE_S = 600
"""Without one a test may take as long as it does on a slow machine."""


class Mutant(msgspec.Struct, frozen=True, kw_only=True):
    """One patch. ``kind``, ``killer``: of its killed-by line."""

    name: str
    kind: str
    killer: str
    patch: str


def mutants() -> list[Mutant]:
    """All of them, by name."""
    return [_read(path) for path in sorted(PATCHES.glob("*.patch"))]


def _read(path: Path) -> Mutant:
    text = path.read_text()
    kind, killer = next(line for line in text.splitlines() if line.startswith("killed-by: ")).split()[1:]
    return Mutant(name=path.stem, kind=kind, killer=killer, patch=text)


class Tree:
    """A copy of the project to break: its C programs are built in it, so that a mutant costs one file to compile."""

    def __init__(self, top: Path, memory: Path) -> None:
        self.top = top
        self._memory = memory
        for name in COPIED:
            source = TOP / name
            if source.is_dir():
                shutil.copytree(source, top / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, top / name)

    @contextmanager
    def broken(self, mutant: Mutant) -> Iterator[None]:
        """The tree with the patch on it. Raises: CalledProcessError: it does not fit."""
        self._patch(mutant)
        try:
            yield
        finally:
            self._patch(mutant, "--reverse")

    def _patch(self, mutant: Mutant, *options: str) -> None:
        command = ["patch", "-p1", "--silent", "--no-backup-if-mismatch", "--fuzz=1", *options]
        subprocess.run(command, cwd=self.top, input=mutant.patch, text=True, check=True, capture_output=True)

    def passes(self, mutant: Mutant, *, limit_s: float = KILL_S) -> bool:
        """Build and run what has to kill the mutant. Raises: CalledProcessError: the build."""
        command = {"harness": self._harness, "native": self._native, "pytest": self._pytest}[mutant.kind](mutant.killer)
        with tempfile.TemporaryDirectory(dir=self.top) as empty:
            cwd = self.top if mutant.kind == "pytest" else empty
            try:
                done = subprocess.run(
                    command, cwd=cwd, timeout=limit_s, capture_output=True, check=False, stdin=subprocess.DEVNULL,
                    env=os.environ | {"PYTHONPATH": str(self.top)},
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                return False
        return done.returncode == 0

    def _harness(self, name: str) -> list[str]:
        self._make("tests/harness", name, "SANITIZE=none")
        placed = ["--directory", str(self._memory)] if name in PLACED else []
        return [*HARNESSES[name].command(self.top / "built", HARNESSES[name].in_tests, SEED), *placed]

    def _native(self, name: str) -> list[str]:
        self._make("tests/native", name)
        return [str(self.top / "built-native" / name)]

    def _make(self, directory: str, program: str, *options: str) -> None:
        out = self.top / ("built" if options else "built-native")
        command = ["make", "-s", "-j2", "-C", str(self.top / directory), f"OUT={out}", *options, str(out / program)]
        subprocess.run(command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)

    def _pytest(self, test: str) -> list[str]:
        return [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", test]


@contextmanager
def tree() -> Iterator[Tree]:
    made = partial(tempfile.TemporaryDirectory, prefix="vsnapfs-mutants-")
    with made() as top, made(dir="/dev/shm") as memory:
        yield Tree(Path(top), Path(memory))

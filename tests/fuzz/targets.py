"""What can be fuzzed: C targets (``fuzz_NAME.c`` beside this file, libFuzzer) and Python targets (``target_NAME.py``, atheris)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

HERE = Path(__file__).parent
TOP = HERE.parents[1]
SEEDS = HERE / "seeds"
FOUND = HERE / "found"
"""Inputs that failed once, by target; each is run by the tests for ever."""

C_TARGETS = tuple(sorted(path.stem.removeprefix("fuzz_") for path in HERE.glob("fuzz_*.c")))
PYTHON_TARGETS = tuple(sorted(path.stem.removeprefix("target_") for path in HERE.glob("target_*.py")))
TARGETS = C_TARGETS + PYTHON_TARGETS

INPUT_BYTES_MAX = 20000
INPUT_S_MAX = 20
"""One input takes milliseconds; this is for a machine that is busy elsewhere."""
RSS_MIB_MAX = 1024
ALLOCATION_MIB_MAX = 64
BUILD_S = 900

_EXECUTED = re.compile(r"stat::number_of_executed_units: (\d+)|^Done (\d+) runs? in", re.MULTILINE)
_EDGES = re.compile(r"\bcov: (\d+)")


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a run; the last line that ``python -m tests.fuzz`` prints."""

    harness: str = "fuzz"
    target: str
    seed: int
    executions: int
    seconds: float
    edges: int
    """Places of the code between jumps that were reached."""
    failures: int


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    run: Run
    status: int
    output: str
    artifacts: list[Path]
    """Inputs that failed."""


def build(out: Path, targets: list[str]) -> None:
    """Build C targets into a directory. Raises: RuntimeError with the compiler's words."""
    programs = [str(out / name) for name in targets if name in C_TARGETS]
    if not programs:
        return
    command = ["make", "-s", "-j2", "-C", str(HERE), f"OUT={out}", *programs]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_S, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the fuzzers could not be built:\n{done.stderr}")


@contextmanager
def built(targets: list[str]) -> Iterator[Path]:
    """A directory with the targets' programs."""
    with tempfile.TemporaryDirectory(prefix="vsnapfs-fuzz-") as name:
        build(Path(name), targets)
        yield Path(name)


def program_of(target: str, out: Path) -> list[str]:
    if target in C_TARGETS:
        return [str(out / target)]
    return [sys.executable, "-m", f"tests.fuzz.target_{target}"]


def inputs_of(target: str) -> list[Path]:
    """Seeds, and what was found before."""
    return sorted(path for top in (SEEDS, FOUND) for path in (top / target).glob("*"))


def replay(target: str, out: Path) -> subprocess.CompletedProcess[str]:
    """Every seed and every found input once. Status 0: none fails."""
    command = [*program_of(target, out), *_limits(), *map(str, inputs_of(target))]
    return subprocess.run(
        command, cwd=TOP, capture_output=True, text=True, errors="replace", timeout=BUILD_S, check=False
    )


def _limits() -> list[str]:
    return [
        f"-timeout={INPUT_S_MAX}",
        f"-rss_limit_mb={RSS_MIB_MAX}",
        f"-malloc_limit_mb={ALLOCATION_MIB_MAX}",
        f"-max_len={INPUT_BYTES_MAX}",
    ]


def fuzz(
    target: str, out: Path, work: Path, *, seed: int, executions: int | None = None, seconds: int | None = None
) -> Outcome:
    """Run a target for so many executions or seconds, whatever comes first; it stops at the first failure.

    work: a directory for what it finds; its ``corpus`` is gone on with.
    """
    corpus, artifacts = work / "corpus", work / "artifacts"
    corpus.mkdir(parents=True, exist_ok=True)
    artifacts.mkdir(exist_ok=True)
    command = [*program_of(target, out), *_limits(), f"-seed={seed}", "-print_final_stats=1"]
    command += [f"-artifact_prefix={artifacts}/", f"-runs={executions or -1}", f"-max_total_time={seconds or 0}"]
    command += [str(corpus), *(str(top / target) for top in (SEEDS, FOUND) if (top / target).is_dir())]
    began = time.monotonic()
    done = subprocess.run(
        command, cwd=TOP, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
        env=os.environ | {"PYTHONHASHSEED": "0"},
    )  # fmt: skip
    found = sorted(artifacts.iterdir())
    executed = [int(a or b) for a, b in _EXECUTED.findall(done.stdout)]
    edges = [int(edge) for edge in _EDGES.findall(done.stdout)]
    run = Run(
        target=target, seed=seed, executions=max(executed, default=0), seconds=round(time.monotonic() - began, 1),
        edges=max(edges, default=0), failures=max(len(found), int(done.returncode != 0)),
    )  # fmt: skip
    return Outcome(run=run, status=done.returncode, output=done.stdout, artifacts=found)

"""Builds and runs each ``test_*.c`` beside this file, under the address and undefined-behaviour sanitizers; those that are
about threads also under the thread sanitizer.

A program runs in an empty directory of its own; what it prints is only shown when it fails. Exit status 77: the
machine lacks what it needs, which is a skip for a developer and a failure under ``CI=true``. Source: check.h, Makefile.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NATIVE = HERE.parent.parent / "native"
PROGRAMS = sorted(path.stem for path in HERE.glob("test_*.c"))
SKIPPED = 77
BUILD_S = 600
RUN_S = 300

pytestmark = pytest.mark.timeout(BUILD_S + RUN_S)
THREADED = (
    "test_base_moves",
    "test_branch_threads",
    "test_gap",
    "test_generations",
    "test_hold",
    "test_journal_threads",
    "test_plane_parts",
    "test_plane_stress",
)
"""What the thread sanitizer is for."""

SANITIZER_OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1",
}
STRICT = ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-Wshadow", "-O2"]


def run(command: list[str], cwd: Path, timeout_s: int) -> subprocess.CompletedProcess[str]:
    environment = os.environ | SANITIZER_OPTIONS
    return subprocess.run(
        command, check=False, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout_s
    )


def make(out: Path, target: str, sanitize: str = "address,undefined") -> None:
    done = run(["make", "-j2", f"OUT={out}", "CC=gcc", f"SANITIZE={sanitize}", target], HERE, BUILD_S)
    if done.returncode != 0:
        pytest.fail(f"make {target}:\n{done.stderr}", pytrace=False)


def leave_out(why: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must not leave it out: {why}", pytrace=False)
    pytest.skip(why)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that programs are built in; it holds the core as a library."""
    out = tmp_path_factory.mktemp("native")
    make(out, "core")
    return out


@pytest.fixture(scope="session")
def built_for_threads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, under the thread sanitizer."""
    out = tmp_path_factory.mktemp("native-threads")
    make(out, "core", "thread")
    return out


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name: str, built: Path, tmp_path: Path) -> None:
    make(built, f"{built}/{name}")
    assert_passes(name, [f"{built}/{name}"], tmp_path)


@pytest.mark.parametrize("name", THREADED)
def test_threads(name: str, built_for_threads: Path, tmp_path: Path) -> None:
    """The sanitizer's shadow does not fit beside addresses that are more random than it knows: they are not, here."""
    make(built_for_threads, f"{built_for_threads}/{name}", "thread")
    assert_passes(name, ["setarch", "--addr-no-randomize", f"{built_for_threads}/{name}"], tmp_path)


def assert_passes(name: str, command: list[str], tmp_path: Path) -> None:
    done = run(command, tmp_path, RUN_S)
    if done.returncode == SKIPPED:
        leave_out(done.stderr.strip().splitlines()[-1])
    if done.returncode != 0:
        pytest.fail(f"{name}: status {done.returncode}\n{done.stdout}{done.stderr}", pytrace=False)


def test_programs_are_found() -> None:
    assert {"test_codec", "test_packed", "test_extent_map", "test_io_posix", "test_base"} <= set(PROGRAMS)


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_every_source_and_header_compiles_alone(compiler: str) -> None:
    found = shutil.which(compiler) or shutil.which(f"{compiler}-14")
    if found is None:
        leave_out(f"no {compiler}")
        return
    for path in [*NATIVE.glob("src/*.[ch]"), *NATIVE.glob("include/*.h")]:
        flags = [*STRICT, f"-I{NATIVE}/include", f"-I{NATIVE}/src", "-fsyntax-only", "-x", "c"]
        if path.suffix == ".h":
            flags.append("-Wno-unused-function")
        done = run([found, *flags, str(path)], HERE, BUILD_S)
        assert done.returncode == 0, done.stderr

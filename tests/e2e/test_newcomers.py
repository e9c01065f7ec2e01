"""What a newcomer runs first: the demo, the tour of the README, the benchmark; each leaves nothing behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.attaching import loops_on
from tests.support.waiting import eventually

TOP = Path(__file__).parents[2]
COMMAND_DIRECTORY = Path(sys.executable).parent
RUN_S_MAX = 300
TEST_S_MAX = RUN_S_MAX + 30

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.requires_root,
    pytest.mark.requires_fuse,
    pytest.mark.timeout(TEST_S_MAX),
]


def run(command: list[str | Path], directory: Path) -> subprocess.CompletedProcess[str]:
    """Run with this environment's ``vsnapfs`` first on the path, and ``directory`` for temporary files."""
    environment = os.environ | {"PATH": f"{COMMAND_DIRECTORY}:{os.environ['PATH']}", "TMPDIR": str(directory)}
    return subprocess.run(
        command, cwd=directory, env=environment, check=False, capture_output=True, text=True, timeout=RUN_S_MAX
    )


def leftovers(directory: Path) -> list[str]:
    """Mounts, loop devices and files that a program left below a directory."""
    mounts = [line for line in Path("/proc/self/mounts").read_text().splitlines() if str(directory) in line]
    return [*mounts, *loops_on(directory), *(str(path) for path in directory.iterdir())]


def assert_left(directory: Path, *files: Path) -> None:
    """These files, and nothing else; the kernel may let go of a loop device a moment later."""
    eventually(lambda: not loops_on(directory), "loop devices are let go")
    assert leftovers(directory) == [str(file) for file in files]


def tour(directory: Path) -> str:
    """The README's tour as one script, in a directory of its own. Its blocks are those after the heading."""
    text = (TOP / "README.md").read_text(encoding="utf-8")
    chapter = text.split("\n## Five minutes\n")[1].split("\n## ")[0]
    lines = "".join(re.findall(r"```sh\n(.*?)```", chapter, re.DOTALL))
    assert "/tmp/tour" in lines
    return "set -eux\n" + lines.replace("/tmp/tour", str(directory / "tour"))


def test_the_demo_shows_all_and_leaves_nothing(tmp_path: Path) -> None:
    done = run([TOP / "scripts" / "demo"], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "$ vsnapfs attach monday db0 old" in done.stdout
    assert "0 damaged" in done.stdout
    assert_left(tmp_path)


def test_the_demo_cleans_up_when_it_fails(tmp_path: Path) -> None:
    """A cmp that finds a difference, in the middle of it, with everything mounted."""
    broken = tmp_path / "bin"
    broken.mkdir()
    (broken / "cmp").write_text("#!/bin/sh\nexit 1\n")
    (broken / "cmp").chmod(0o755)
    shadow = tmp_path / "tmp"
    shadow.mkdir()
    script = f'cmp() {{ "{broken}/cmp"; }}; export -f cmp; exec "{TOP}/scripts/demo"'
    done = run(["bash", "-c", script], shadow)
    assert done.returncode != 0
    assert "demo: failed" in done.stderr
    assert_left(shadow)


def test_the_tour_works_line_by_line(tmp_path: Path) -> None:
    done = run(["bash", "-c", tour(tmp_path)], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the same" in done.stdout
    assert_left(tmp_path, tmp_path / "tour")


def test_the_benchmark_runs(tmp_path: Path) -> None:
    done = run([TOP / "scripts" / "bench", "--quick", "--disk", str(tmp_path), "--memory", str(tmp_path)], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for part in ("a volume each", "vsnapfs view", "qcow2 chain, 10 deep", "first byte"):
        assert part in done.stdout
    assert_left(tmp_path)

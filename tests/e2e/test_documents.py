"""README's tour can be pasted line by line, into one shell that goes on after an error as a terminal's does."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.support.processes import environment, program, unmount

README = Path(__file__).parents[2] / "README.md"
TOUR_S_MAX = 300
TOLD = ("2 archives: ", "tapes, in this order: ")
"""By a recall, before it begins."""
SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.requires_root,
    pytest.mark.requires_fuse,
    pytest.mark.timeout(TOUR_S_MAX + 20),
]


@pytest.fixture
def command_directory(tmp_path: Path) -> Path:
    """A directory with the command ``vsnapfs`` in it, that of this checkout."""
    directory = tmp_path / "bin"
    directory.mkdir()
    python_path = shlex.quote(environment()["PYTHONPATH"])
    (directory / "vsnapfs").write_text(f'#!/bin/sh\nPYTHONPATH={python_path} exec {shlex.join(program())} "$@"\n')
    (directory / "vsnapfs").chmod(0o755)
    return directory


def test_each_line_of_the_tour_succeeds_and_none_complains(command_directory: Path, tmp_path: Path) -> None:
    chapter = README.read_text(encoding="utf-8").split("\n## Five minutes\n")[1].split("\n## ")[0]
    pasted = "".join(re.findall(r"```sh\n(.*?)```", chapter, re.DOTALL))
    tour = tmp_path / "tour"
    lines = pasted.replace("/tmp/tour", str(tour)).splitlines()
    assert len(lines) > 20
    script = "".join(f"{line}\necho :: $? {shlex.quote(line)}\n" for line in lines)
    try:
        done = subprocess.run(
            ["bash"], input=script, cwd=tmp_path, capture_output=True, text=True, timeout=TOUR_S_MAX, check=False,
            env=environment() | {"PATH": f"{command_directory}:{SYSTEM_PATH}"},
        )  # fmt: skip
    finally:
        for mountpoint in ("old", "disk", "mnt"):
            unmount(tour / mountpoint)
    outcomes = [line for line in done.stdout.splitlines() if line.startswith(":: ")]
    assert outcomes == [f":: 0 {line}" for line in lines], done.stdout + done.stderr
    assert [line for line in done.stderr.splitlines() if not line.startswith(TOLD)] == []

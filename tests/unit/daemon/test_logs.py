"""Log lines that cannot be written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import environment

pytestmark = pytest.mark.unit

LINES = 1000
"""More than any buffer takes."""
PROGRAM = f"""
import structlog
from vsnapfs.daemon.logs import set_up

set_up("json")
for number in range({LINES}):
    structlog.get_logger().info("line", number=number, text="x" * 100)
print("still here")
"""


def logged(to: Path) -> str:
    with to.open("wb") as errors:
        command = [sys.executable, "-c", PROGRAM]
        return subprocess.run(
            command, env=environment(), stdout=subprocess.PIPE, stderr=errors, check=False, text=True
        ).stdout


def test_a_full_disk_ends_nobody() -> None:
    assert logged(Path("/dev/full")) == "still here\n"


def test_every_line_is_there_where_there_is_room(tmp_path: Path) -> None:
    assert logged(tmp_path / "log") == "still here\n"
    assert (tmp_path / "log").read_text().count("\n") == LINES

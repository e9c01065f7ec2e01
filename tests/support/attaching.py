"""What attaching may leave behind: nothing. And a process that is killed while it attaches or detaches, at a step of its choice.

``python -m tests.support.attaching STEP attach|detach FILE DIRECTORY`` kills itself when it enters or leaves a function of
vsnapfs.attach, or of subprocess under it, for the STEP-th time; 0: never, and then it prints how many steps there were.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

from vsnapfs.attach import attach, detach, records
from vsnapfs.mounts.table import mounts

PACKAGE = str(Path(records.__file__).parent)
STEPPED = (PACKAGE, subprocess.__file__)


def loops_on(place: Path) -> list[str]:
    """Loop devices with a file below a directory behind them."""
    found = []
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            if backing.read_text().startswith(str(place)):
                found.append(backing.parts[3])
        except OSError:
            continue  # it went
    return found


def left_behind(place: Path) -> list[str]:
    """Of attaching: records and locks, loop devices on files below a directory, and mounts of them below it."""
    files = [str(path) for path in records.place().iterdir()]
    mounted = [
        entry.path for entry in mounts() if entry.source.startswith("/dev/loop") and entry.path.startswith(f"{place}/")
    ]
    return [*files, *mounted, *loops_on(place)]


class Steps:
    """Counts steps, and dies at one."""

    def __init__(self, last: int) -> None:
        self.count = 0
        self._last = last

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        if event in ("call", "return") and frame.f_code.co_filename.startswith(STEPPED):
            self.count += 1
            if self.count == self._last:
                os.kill(os.getpid(), signal.SIGKILL)


def main(last: int, verb: str, file: str, directory: str) -> None:
    steps = Steps(last)
    sys.setprofile(steps)
    if verb == "attach":
        attach(Path(file), directory)
    else:
        detach(directory)
    sys.setprofile(None)
    print(steps.count)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:5])

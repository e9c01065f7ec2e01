"""Power cuts: a machine of User-mode Linux that is killed while it writes to its disk.

Run it as ``python -m tests.crash.power_cut --count 100 --seed 1``. It needs ``linux.uml`` (Debian: user-mode-linux).

The machine sees this one's files, read-only, as its root; its disk is an image with ext4, on which process 1 plays a workload
and prints what was acknowledged. SIGKILL of all its processes is the cut. Then the image is mounted here and the repository
opened. All that the machine had in memory is lost: page cache, the filesystem's journal in memory, requests on their way.
What its disk had taken is there, flushed or not, since it lies in this machine's page cache: a disk that keeps its own
cache. One that loses it too is what logged writes show.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.crash.counted import main
from tests.crash.moments import a_moment_more
from tests.harness.building import built
from tests.support.devices import loop_device, mounted, sh

KERNEL = "linux.uml"
DISK_BYTES = 64 << 20
CUTS_PER_ROUND = 4
STEPS_MAX = 120
MORE_S_MAX = 0.02
MACHINE_S_MAX = 60
NOTE = re.compile(r"\d+ \d+")
"""Steps done, and what is durable."""


@contextmanager
def machine(directory: Path, image: Path, seed: int) -> Iterator[subprocess.Popen[str]]:
    """A machine that plays. All its processes, which are a group of their own, are killed when the block is left."""
    command = [
        KERNEL,
        "mem=192M",
        "root=/dev/root",
        "rootfstype=hostfs",
        "rootflags=/",
        "ro",
        "quiet",
        "con=null",
        "con0=null,fd:1",
    ]
    command += [
        f"ubd0={image}",
        f"uml_dir={directory}",
        f"init={built('power_cut')}",
        "--",
        "play",
        "/dev/ubda",
        str(seed),
    ]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True,
        env=os.environ | {"TMPDIR": "/dev/shm"},
    )  # fmt: skip
    with process:
        watch = threading.Timer(MACHINE_S_MAX, power_off, [process])
        watch.start()
        try:
            yield process
        finally:
            watch.cancel()
            power_off(process)


def power_off(process: subprocess.Popen[str]) -> None:
    """Kill all processes of a machine that was not waited for yet."""
    os.killpg(process.pid, signal.SIGKILL)


def cut(directory: Path, seed: int) -> int:
    """One machine, one cut, one look. Returns the steps that the machine told of.

    Raises: AssertionError if it did not play, or if what it left is not what it must be.
    """
    rng = random.Random(seed)
    image = directory / f"{seed}.img"
    with image.open("wb") as file:
        file.truncate(DISK_BYTES)
    sh("mkfs.ext4", "-q", "-F", image)
    told: list[str] = []
    wanted = rng.randint(0, STEPS_MAX)
    with machine(directory, image, seed) as process:
        assert process.stdout is not None
        for line in process.stdout:
            told.append(line.strip())
            if ("made" in told and len(told) - told.index("made") > wanted) or "played" in told:
                break
        a_moment_more(rng, MORE_S_MAX)
        power_off(process)
        told += [line.strip() for line in process.stdout if line.endswith("\n")]
    assert "made" in told, f"the machine did not come to play: {told}"
    notes = [line.split() for line in told[told.index("made") + 1 :] if NOTE.fullmatch(line)]
    with loop_device(image) as device, mounted(device, directory / "disk"):
        sh(built("power_cut"), "judge", directory / "disk" / "r", str(seed), *(notes[-1] if notes else ("0", "0")))
    image.unlink()
    return len(notes)


def play(seed: int, count: int, directory: Path) -> Counter[str]:
    """A few machines, one after the other."""
    assert shutil.which(KERNEL), f"{KERNEL} is not installed"
    cuts = min(count, CUTS_PER_ROUND)
    steps = [cut(directory, seed * CUTS_PER_ROUND + number) for number in range(cuts)]
    print(f"{cuts} cuts, after {steps} steps", flush=True)
    return Counter(ext4=cuts)


if __name__ == "__main__":
    main("power_cut", play, count=20)

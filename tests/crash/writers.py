"""Writer processes that log each acknowledgement elsewhere, and what each of them was going to write.

What a writer does follows from its seed, so its log needs no more than numbers, and every byte can be told again:
who wrote it, and with which of its writes. Each writer has a stripe of every volume to itself. Each write begins at a
page, because the kernel splits a write that begins inside one and goes over its end.

    python -m tests.crash.writers SEED STRIPE MOUNT LOG [ERRNO...]

SIGTERM lets one end after the write that it is at; it then prints how many seconds the slowest took. The loss of the
server ends it too, and so does a write that fails with one of the errnos, given by name.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from tests.support.processes import environment

VOLUMES = ("db", "logs")
STRIPES = 2
STRIPE_BYTES = 1 << 20
VOLUME_BYTES = STRIPES * STRIPE_BYTES
PAGE_BYTES = 4096
WRITE_MIN = 4096
WRITE_MAX = 65536
LOG_TAIL_BYTES = 64
"""More than two lines of a log."""

Request = Literal["nothing", "fsync", "dsync"]
"""What makes a write durable: nothing yet, an fsync after it, or the write itself."""


class Write(NamedTuple):
    """Write ``number`` (from 1) of a writer."""

    number: int
    volume: str
    offset_bytes: int
    length_bytes: int
    request: Request


class Plan:
    """What the writer with this seed writes to its stripe, for ever. ``seed``: 0 .. 2^63."""

    def __init__(self, seed: int, stripe: int) -> None:
        self.seed = seed
        self.start_bytes = stripe * STRIPE_BYTES

    def writes(self) -> Iterator[Write]:
        rng = random.Random(self.seed)
        number = 0
        while True:
            number += 1
            length_bytes = rng.choice([WRITE_MIN, rng.randint(WRITE_MIN, WRITE_MAX)])
            page = rng.randrange((STRIPE_BYTES - length_bytes) // PAGE_BYTES + 1)
            request: Request = rng.choice(("nothing", "fsync", "fsync", "dsync"))
            yield Write(number, rng.choice(VOLUMES), self.start_bytes + page * PAGE_BYTES, length_bytes, request)

    def content(self, write: Write) -> bytes:
        """Its bytes: each page says who, which write, and which part of it. Never zeros."""
        parts = range(-(-write.length_bytes // PAGE_BYTES))
        stamped = b"".join(struct.pack("<QII", self.seed, write.number, part) * 256 for part in parts)
        return stamped[: write.length_bytes]


class Writer:
    """A writer process and its log. ``ends``: names of the errnos that may end it, besides the loss of the server."""

    def __init__(self, plan: Plan, stripe: int, mountpoint: Path, log_path: Path, ends: tuple[str, ...] = ()) -> None:
        self.plan = plan
        self._log_path = log_path
        self._log_path.touch()
        arguments = [str(plan.seed), str(stripe), str(mountpoint), str(log_path), *ends]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.writers", *arguments],
            env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def acknowledged(self) -> int:
        """Number of the last write that is known to be durable, and all before it with it; 0: none yet."""
        with self._log_path.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
            whole = log.read().split(b"\n")[:-1]
        return int(whole[-1]) if whole else 0

    def is_running(self) -> bool:
        return self._process.poll() is None

    def join(self, deadline_s: float) -> None:
        """Wait until the loss of the server has ended it."""
        status = self._process.wait(deadline_s)
        assert status == 0, f"a writer ended with {status}"

    def stop(self, deadline_s: float) -> float:
        """End it, which must not have failed. Returns: the seconds that its slowest write took."""
        self._process.terminate()
        said, _ = self._process.communicate(timeout=deadline_s)
        assert self._process.returncode == 0, f"a writer ended with {self._process.returncode}"
        return float(said)

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextlib.contextmanager
def writing(plans: list[Plan], mountpoint: Path, logs: Path, ends: tuple[str, ...] = ()) -> Iterator[list[Writer]]:
    """A writer for each plan, while the block runs."""
    writers = [Writer(plan, stripe, mountpoint, logs / f"{plan.seed}.log", ends) for stripe, plan in enumerate(plans)]
    try:
        yield writers
    finally:
        for writer in writers:
            writer.kill()


def main(seed: int, stripe: int, mountpoint: Path, log_path: Path, ends: list[int]) -> None:
    """Write and log until the server is gone, SIGTERM comes, or one of ``ends`` does; any other failure raises."""
    asked_to_end = False

    def end(*_: object) -> None:
        nonlocal asked_to_end
        asked_to_end = True

    signal.signal(signal.SIGTERM, end)
    plan, slowest_s = Plan(seed, stripe), 0.0
    log = os.open(log_path, os.O_WRONLY | os.O_APPEND)
    try:
        files = {name: os.open(mountpoint / "live" / name, os.O_RDWR) for name in VOLUMES}
        for write in plan.writes():
            if asked_to_end:
                break
            content, began = plan.content(write), time.monotonic()
            _put(files[write.volume], write, content)
            slowest_s = max(slowest_s, time.monotonic() - began)
            if write.request != "nothing":
                os.write(log, b"%d\n" % write.number)
    except (ConnectionAbortedError, ConnectionRefusedError):
        pass
    except OSError as error:
        if error.errno not in (errno.ENOTCONN, *ends):
            raise
    print(slowest_s)


def _put(file: int, write: Write, content: bytes) -> None:
    flags = os.RWF_DSYNC if write.request == "dsync" else 0
    written = os.pwritev(file, [content], write.offset_bytes, flags)
    assert written == write.length_bytes, f"write {write.number}: {written} of {write.length_bytes} bytes"
    if write.request == "fsync":
        os.fsync(file)


if __name__ == "__main__":
    ends = [int(getattr(errno, name)) for name in sys.argv[5:]]
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]), ends)

"""What is left of an exception group when it reaches the command, and what signals do to a mount."""

from __future__ import annotations

import subprocess
import sys

import pytest
import trio

from vsnapfs.core.errors import BusyError, LockedError
from vsnapfs.daemon.serving import errors_unwrapped

pytestmark = pytest.mark.unit


async def fail(error: BaseException) -> None:
    async with trio.open_nursery(), trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        raise error


@pytest.mark.parametrize("error", [LockedError("held", pid=7), BusyError("busy"), KeyboardInterrupt()])
def test_an_error_of_ours_comes_out_of_its_groups(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, errors_unwrapped():
        trio.run(fail, error)
    assert caught.value is error


def test_a_defect_stays_as_it_is() -> None:
    with pytest.raises(ExceptionGroup), errors_unwrapped():
        trio.run(fail, ZeroDivisionError())


IMPATIENT = """
import os, signal
import trio
from vsnapfs.daemon.holding import Holding
from vsnapfs.daemon.serving import mounted

class Mount:
    def __init__(self):
        self.ended = trio.Event()
    async def run(self, *, task_status):
        task_status.started()
        await self.ended.wait()
    async def stop(self):
        os.kill(os.getpid(), signal.SIGTERM)
        self.ended.set()
        await trio.sleep_forever()

async def main():
    async with mounted(Mount(), Holding()) as life:
        os.kill(os.getpid(), signal.SIGTERM)
        await life.ending.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    print("committed")

trio.run(main)
"""


def test_what_is_ending_is_not_ended_by_another_signal() -> None:
    """One comes while the mount is being taken away, another while what was written is committed."""
    done = subprocess.run([sys.executable, "-c", IMPATIENT], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["committed"]), done.stderr

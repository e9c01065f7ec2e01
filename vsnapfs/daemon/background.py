"""Start a mount and return when it answers, as mount(8) expects of what it calls.

The mount is this command again, in a session of its own, with a pipe on which it says that it is ready. If it ends
before, its error is raised here. Afterwards it belongs to nobody; ``umount`` ends it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

import msgspec

from vsnapfs.core.errors import StoreError, VsnapfsError
from vsnapfs.daemon.wire import ErrorObject, error_of

READY = b"+"


class _Failure(msgspec.Struct):
    """What the command writes on standard error with --json."""

    error: ErrorObject


def start(arguments: Sequence[str]) -> int:
    """Run ``vsnapfs ARGUMENTS… --ready-fd N`` in the background. The arguments ask for --json: errors are to be read.

    Returns: its pid, once it is ready. Raises: VsnapfsError: its own error, if it ended first.
    """
    ready, theirs = os.pipe()
    # -P: the working directory may hold somebody else's idea of a vsnapfs package
    command = [sys.executable, "-P", "-m", "vsnapfs.cli", *arguments, "--ready-fd", str(theirs)]
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        pass_fds=[theirs],
        start_new_session=True,
    ) as child:
        os.close(theirs)
        try:
            said = os.read(ready, 1)
        except BaseException:
            child.terminate()
            raise
        finally:
            os.close(ready)
        if said != READY:
            _, text = child.communicate()
            raise _error(text, child.returncode)
        child.returncode = 0  # it lives on, and is nobody's to wait for
        return child.pid


def let_go() -> None:
    """In the child, and in what it has started: of the terminal and the working directory."""
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 2)
    os.close(null)


def tell_ready(ready_fd: int) -> None:
    """In the child: let go, then say that the mount answers."""
    let_go()
    os.write(ready_fd, READY)
    os.close(ready_fd)


def _error(text: bytes, status: int) -> VsnapfsError:
    for line in reversed(text.splitlines()):
        try:
            return error_of(msgspec.json.decode(line, type=_Failure).error)
        except msgspec.DecodeError:
            continue
    return StoreError(f"the mount ended before it was ready, with status {status}")

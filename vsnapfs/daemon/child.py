"""A command of ours that a server runs in a process of its own, with less priority than itself: what takes long, or looks at the mount.

Concurrency: of trio's thread.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import trio

from vsnapfs.core.documents import from_json
from vsnapfs.core.errors import StoreError, VsnapfsError, from_object
from vsnapfs.daemon.hook import NOT_FOR_OTHERS, left_in

END_S_MAX = 6.0
"""A command that is told to end puts away what it has begun."""
SAID_BYTES_MAX = 65536
NICE = 10


class Ended(NamedTuple):
    """How a command ended. status: None: it could not be run."""

    status: int | None
    error: VsnapfsError | None
    """What it has said as it failed, if it has."""
    said: str
    """The end of all that it has said."""

    def failure(self, what: str) -> VsnapfsError:
        """Of one that did not do what it should. what: it is, for people."""
        if self.error is not None:
            return self.error
        return StoreError(f"the {what} ended with status {self.status}" + (f": {self.said}" if self.said else ""))


async def run_child(repository: Path, words: list[str]) -> Ended:
    """Run ``vsnapfs`` with these words on a repository. Cancelled, it tells the command to end, and waits for that."""
    own = [sys.executable, "-m", "vsnapfs.cli", "--repo", str(repository), *words]
    run = ["choom", "--adjust", "0", "--", "nice", "-n", str(NICE), *own]
    environment = {name: value for name, value in os.environ.items() if name not in NOT_FOR_OTHERS}
    try:
        process = await trio.lowlevel.open_process(
            run,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        return Ended(None, StoreError(f"cannot run {run[0]}: {error.strerror}"), "")
    said = bytearray()
    try:
        status = await _attend(process, said)
    except BaseException:
        await _end(process)
        raise
    finally:
        assert process.stderr is not None
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(process.stderr)
    return Ended(status, _error_in(bytes(said)), " ".join(said.decode(errors="replace").split())[-200:])


async def _attend(process: trio.Process, said: bytearray) -> int:
    """Until it has ended. Returns: its status."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_hear, process, said)
        status = await process.wait()
        nursery.cancel_scope.cancel()
    for piece in left_in(process.stderr):
        _keep(piece, said)
    return status


async def _hear(process: trio.Process, said: bytearray) -> None:
    """The end of what it says on standard error: it shall not stand still because nobody reads, and why it fails comes last."""
    assert process.stderr is not None
    async for piece in process.stderr:
        _keep(piece, said)


def _keep(piece: bytes | bytearray, said: bytearray) -> None:
    said += piece
    del said[:-SAID_BYTES_MAX]


async def _end(process: trio.Process) -> None:
    """Have it clean up, and wait for that; one that does not end in time is killed, and the next one cleans up."""
    with trio.CancelScope(shield=True):
        process.terminate()
        with trio.move_on_after(END_S_MAX):
            await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()


class _Failure(msgspec.Struct):
    error: dict[str, Any]


def _error_in(said: bytes) -> VsnapfsError | None:
    """What the command has said as it failed; None: it did not, whatever programs may have warned of."""
    for line in reversed(said.splitlines()):
        try:
            return from_object(from_json(line, _Failure).error)
        except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
            continue
    return None

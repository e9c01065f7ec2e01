"""The command for events: run by the server for each event, one at a time, in the order in which they happened.

It gets the event as JSON on standard input, and in its environment. Nothing waits for it: events queue up to a bound, then they
are counted and dropped. It has a time limit, and whatever it has started in its session is killed at its end.

It is started by way of choom(1), since a server that the kernel shall kill last would hand that on, and of timeout(1), which
ends it too when this server was killed. Both are programs of the system: while their successor is looked for, which may
lie on a disk that does not answer or on our own mount, nobody waits in here.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
import structlog
import trio

from vsnapfs.core.events import Event
from vsnapfs.policy.events import EventsSettings

if TYPE_CHECKING:
    from vsnapfs.repository.repository import Repository

QUEUE_MAX = 256
DRAIN_S_MAX = 2.0
"""At the end of the server."""
SAID_BYTES_MAX = 1000
"""Of what the command writes on standard error so much is told when it fails; the rest is read and dropped."""
PIPE_BYTES = 1 << 20
"""All that a pipe holds, unless somebody has made it larger."""
REAP_S_MAX = 2.0
"""One that is killed ends later, if it waits for a disk that does not answer. Popen looks after it when the next one is made."""
OWN_KINDS = frozenset({"hook_failed", "events_dropped"})
"""Told of the command, and so not to it."""
NOT_FOR_OTHERS = ("NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "VSNAPFS_SOCKET")

in_thread = trio.to_thread.run_sync
log = structlog.get_logger()


class Hook:
    """Of trio's thread."""

    def __init__(self, settings: EventsSettings, repository: Repository) -> None:
        self._command = settings.command
        self._kinds = frozenset(settings.kinds)
        self._timeout_s = settings.timeout_s
        self._repository = repository
        self._put, self._take = trio.open_memory_channel[Event](QUEUE_MAX)
        self._done = trio.Event()
        self._dropped = 0
        self._failure = ""

    def put(self, event: Event) -> None:
        """Have the command run for it, if it is one of its kinds."""
        if not self._command or event.kind in OWN_KINDS or (self._kinds and event.kind not in self._kinds):
            return
        try:
            self._put.send_nowait(event)
        except (trio.WouldBlock, trio.ClosedResourceError):
            self._dropped += 1

    async def run(self) -> None:
        """Until ``drain``, or cancelled."""
        try:
            async for event in self._take:
                await self._run_for(event)
                if self._dropped and not self._take.statistics().current_buffer_used:
                    await self._tell_dropped()
        finally:
            self._done.set()

    async def drain(self) -> None:
        """Let those that are queued have their turn, for a moment; take no more. What is left is counted as dropped."""
        self._put.close()
        with trio.move_on_after(DRAIN_S_MAX):
            await self._done.wait()
        self._dropped += self._take.statistics().current_buffer_used
        if self._dropped:
            await self._tell_dropped()

    async def _tell_dropped(self) -> None:
        count, self._dropped = self._dropped, 0
        await in_thread(lambda: self._repository.tell("events_dropped", count=count))

    async def _run_for(self, event: Event) -> None:
        failure = await self._failure_of(event)
        if failure and failure != self._failure:
            await in_thread(lambda: self._repository.tell("hook_failed", event.kind, of=event.id, reason=failure))
        self._failure = failure

    async def _failure_of(self, event: Event) -> str:
        """Run the command once. Returns: why that failed; "": it did not."""
        try:
            process = await trio.lowlevel.open_process(
                self._words(),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=self._environment(event),
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            return f"cannot run {self._words()[0]}: {error.strerror}"
        said = bytearray()
        try:
            with trio.move_on_after(self._timeout_s) as limit:
                await self._attend(process, msgspec.json.encode(event) + b"\n", said)
        finally:
            await _end(process, said)
        if limit.cancelled_caught:
            return f"it was still running after {self._timeout_s:g} s"
        if process.returncode == 0:
            return ""
        words = " ".join(said.decode(errors="replace").split())
        return f"exit status {process.returncode}" + (f": {words}" if words else "")

    def _words(self) -> list[str]:
        backstop_s = self._timeout_s + DRAIN_S_MAX
        return ["choom", "--adjust", "0", "--", "timeout", "--signal=KILL", f"{backstop_s:.3f}", *self._command]

    def _environment(self, event: Event) -> dict[str, str]:
        names = ("id", "time", "kind", "severity", "subject", "text")
        said = {f"VSNAPFS_EVENT_{name.upper()}": str(getattr(event, name)) for name in names}
        ours = {"VSNAPFS_REPO": str(self._repository.path), "VSNAPFS_EVENT": msgspec.json.encode(event).decode()}
        told = {
            name: value.replace("\0", "?") for name, value in (said | ours).items()
        }  # a subject is what somebody asked for
        return {name: value for name, value in os.environ.items() if name not in NOT_FOR_OTHERS} | told

    async def _attend(self, process: trio.Process, body: bytes, said: bytearray) -> None:
        """Until it has ended; what it has left behind may hold on to the pipes."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_feed, process, body)
            nursery.start_soon(_hear, process, said)
            await process.wait()
            nursery.cancel_scope.cancel()


async def _feed(process: trio.Process, body: bytes) -> None:
    assert process.stdin is not None
    try:
        await process.stdin.send_all(body)
    except trio.BrokenResourceError:
        """It does not want to know."""
    await process.stdin.aclose()


async def _hear(process: trio.Process, said: bytearray) -> None:
    """What it writes on standard error, to the end: it shall not stand still because nobody reads."""
    assert process.stderr is not None
    async for piece in process.stderr:
        said += piece[: SAID_BYTES_MAX - len(said)]


async def _end(process: trio.Process, said: bytearray) -> None:
    """Kill it and all of its session that stayed in its group; then hear its last words."""
    with trio.CancelScope(shield=True):
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            """All have ended."""
        with trio.move_on_after(REAP_S_MAX):
            await process.wait()
        for piece in left_in(process.stderr):
            said += piece[: SAID_BYTES_MAX - len(said)]
        for stream in (process.stdin, process.stderr):
            if stream is not None:
                await trio.aclose_forcefully(stream)


def left_in(pipe: trio.abc.ReceiveStream | None) -> Iterator[bytes]:
    """What is in the pipe of a process that has ended. Waits for nothing: who has it open still may never say anything."""
    assert isinstance(pipe, trio.lowlevel.FdStream)
    left_bytes = PIPE_BYTES
    with suppress(BlockingIOError):
        while left_bytes > 0 and (piece := os.read(pipe.fileno(), left_bytes)):
            left_bytes -= len(piece)
            yield piece

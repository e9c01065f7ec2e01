"""The keeper: holds what must outlive a worker, starts workers, and does nothing else.

It holds the descriptor of /dev/fuse, the keep, and the repository's lock. A worker (this program again, with ``--worker``)
asks it to mount, once, and serves. As long as somebody holds the device the kernel waits, and so does every
application: when a worker is killed, the next one goes on where it was.

* A worker that ends by itself ended as it should, or has said why not: the keeper ends the same way.
* One that was killed, or broke after it had been ready, is followed by another, at once; after FAILURES_MAX that did
  not live for LIVED_S the keeper gives up: the mount goes, its users get ENOTCONN.
* On a kernel that cannot send requests again (before Linux 6.9) the next worker gets a new mount.
* SIGTERM and SIGINT are handed on. When the keeper dies its worker ends as if it had got SIGTERM.

The keeper never looks at its own mount: it would wait for a worker that only it can start.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Self

import msgspec
import structlog

from vsnapfs.binding import Keep, detach, resumable
from vsnapfs.core.errors import StoreError, VsnapfsError, to_object
from vsnapfs.daemon.holding import MESSAGE_BYTES_MAX, READY, Given
from vsnapfs.repository.lock import lock_repository
from vsnapfs.tree.fuse import Wanted, mount_device

FAILURES_MAX = 5
LIVED_S = 10.0
KILLED = 128
"""Exit status of a command that a signal ended, less the signal's number, as shells have it."""
PAUSE_S = 0.2
"""After each failure in a row this much longer."""

log = structlog.get_logger()


def keep(
    repository: Path, arguments: Sequence[str], announce: Callable[[], None], *, live: bool, background: bool
) -> int:
    """Keep a mount of ``repository`` until its worker has ended.

    Args: arguments: of the command, for a worker; ``--worker`` is added. announce: called when the mount answers. live:
    the worker owns the repository. background: nobody reads what it prints.
    Returns: the worker's exit status. Raises: NotFoundError, FormatUnknownError, LockedError: of the repository.
    StoreError: workers broke again and again.
    """
    with ExitStack() as stack:
        lock = lock_repository(repository) if live else None
        if lock is not None:
            stack.callback(lock.release)
        keeper = _Keeper(arguments, announce, -1 if lock is None else lock.fd, background)
        stack.callback(keeper.close)
        return keeper.run()


class _Keeper:
    def __init__(self, arguments: Sequence[str], announce: Callable[[], None], lock_fd: int, background: bool) -> None:
        self._arguments = arguments
        self._announce = announce
        self._lock_fd = lock_fd
        self._background = background
        self._keep_fd = Keep.make()
        self._keep = Keep(self._keep_fd)
        self._device_fd = -1
        self._announced = False
        self._is_ending = False

    def close(self) -> None:
        """The mount, if a worker has left it, goes with its last descriptor."""
        self._let_go()
        self._keep.close()
        os.close(self._keep_fd)

    def run(self) -> int:
        failures = 0
        with _signals() as woken:
            while True:
                began = time.monotonic()
                worker = _Worker(self._given, self._arguments, self._passed())
                status = self._watch(worker, woken)
                if self._is_final(worker, status):
                    return status if status >= 0 else KILLED - status
                lived = time.monotonic() - began > LIVED_S
                failures = 0 if lived or (worker.was_ready and status == -signal.SIGKILL) else failures + 1
                log.error(
                    "the worker died, another goes on", worker_pid=worker.pid, status=_said(status), failures=failures
                )
                if failures >= FAILURES_MAX:
                    raise StoreError(f"{failures} workers in a row broke; the mount is given up", hint="see the log")
                if self._device_fd >= 0 and not resumable(self._keep):
                    self._let_go()
                time.sleep(PAUSE_S * max(0, failures - 1))

    def _is_final(self, worker: _Worker, status: int) -> bool:
        """Ended as it should, or before there was anything to go on with."""
        if status > 0:
            return not worker.was_ready and not self._announced
        return status == 0 or (self._is_ending and self._device_fd < 0)

    def _given(self, line_fd: int) -> Given:
        return Given(
            line=line_fd,
            keep=self._keep_fd,
            lock=self._lock_fd,
            device=self._device_fd,
            background=self._background,
        )

    def _passed(self) -> list[int]:
        return [fd for fd in (self._keep_fd, self._lock_fd, self._device_fd) if fd >= 0]

    def _watch(self, worker: _Worker, woken: int) -> int:
        """Until it has ended. Returns: its exit status, or minus the signal that killed it."""
        poll = select.poll()
        for fd in (worker.ended_fd, worker.line.fileno(), woken):
            poll.register(fd, select.POLLIN)
        with worker:
            while True:
                ready = {fd for fd, _ in poll.poll()}
                if woken in ready:
                    self._is_ending = _is_signalled(woken) or self._is_ending
                    self._pass_on_signal(worker)
                if worker.line.fileno() in ready and not self._hear(worker):
                    poll.unregister(worker.line.fileno())
                if worker.ended_fd in ready:
                    return worker.status()

    def _hear(self, worker: _Worker) -> bool:
        """Do what the worker asks for. False: it says nothing any more."""
        try:
            message = worker.line.recv(MESSAGE_BYTES_MAX)
        except ConnectionError:
            return False
        if message == READY:
            worker.was_ready = True
            if not self._announced:
                self._announced = True
                self._announce()
            self._pass_on_signal(worker)
        elif message:
            self._mount(worker, msgspec.json.decode(message, type=Wanted))
        return bool(message)

    def _pass_on_signal(self, worker: _Worker) -> None:
        """Not to a worker that takes over from another: it would die of it, and what is kept with it."""
        if self._is_ending and (worker.was_ready or self._device_fd < 0):
            worker.end()

    def _mount(self, worker: _Worker, wanted: Wanted) -> None:
        try:
            device = mount_device(wanted, self._keep)
        except VsnapfsError as error:
            worker.tell(msgspec.json.encode({"error": to_object(error)}))
            return
        self._device_fd = device.fd
        if not resumable(self._keep):
            log.warning(
                "this kernel sends no request again: if the server dies, its users get ENOTCONN and a new mount"
            )
        worker.tell(msgspec.json.encode({"mountpoint": device.mountpoint}), device.fd)

    def _let_go(self) -> None:
        if self._device_fd < 0:
            return
        try:
            detach(self._keep, lazy=True)
        except VsnapfsError:
            """It is gone already, or somebody has put something else there."""
        os.close(self._device_fd)
        self._device_fd = -1


class _Worker:
    """A worker process and the line to it; a context manager that waits for its end."""

    def __init__(self, given: Callable[[int], Given], arguments: Sequence[str], passed: Sequence[int]) -> None:
        self.was_ready = False
        self._asked_to_end = False
        self.line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            told = msgspec.json.encode(given(theirs.fileno())).decode()
            # -P: the working directory may hold somebody else's idea of a vsnapfs package
            command = [sys.executable, "-P", "-m", "vsnapfs.cli", *arguments, "--worker", told]
            self._process = subprocess.Popen(command, pass_fds=[*passed, theirs.fileno()], process_group=0)
        self.pid = self._process.pid
        self.ended_fd = os.pidfd_open(self.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.line.close()
        os.close(self.ended_fd)
        self._process.wait()

    def tell(self, message: bytes, *fds: int) -> None:
        """Answer it; one that has died meanwhile is followed by another, which finds what was done."""
        with suppress(ConnectionError):
            socket.send_fds(self.line, [message], fds)

    def end(self) -> None:
        """Ask it to end, once."""
        if not self._asked_to_end:
            self._asked_to_end = True
            self._process.terminate()

    def status(self) -> int:
        return self._process.wait()


@contextmanager
def _signals() -> Iterator[int]:
    """A descriptor that is readable when SIGTERM or SIGINT has come; they do nothing else meanwhile."""
    ours, pythons = socket.socketpair()
    for end in (ours, pythons):
        end.setblocking(False)
    caught = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda *_: None) for number in caught}
    told_before = signal.set_wakeup_fd(pythons.fileno())
    try:
        yield ours.fileno()
    finally:
        signal.set_wakeup_fd(told_before)
        for number, handler in before.items():
            signal.signal(number, handler)
        ours.close()
        pythons.close()


def _is_signalled(woken: int) -> bool:
    return any(number in (signal.SIGTERM, signal.SIGINT) for number in os.read(woken, 64))


def _said(status: int) -> str:
    return f"exit status {status}" if status >= 0 else f"killed by {signal.Signals(-status).name}"

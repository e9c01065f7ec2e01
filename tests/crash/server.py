"""A server that is killed: the real program, left dead with its mount, and started again over it."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import Self

from tests.support.processes import END_S, READY_S, environment, program, unmount
from tests.support.waiting import eventually


class Server:
    """``vsnapfs serve`` on a directory, any number of times one after the other.

    Nothing is done between two lives but starting it: whatever a dead one leaves is for the next one to clear. ``log``
    is what the newest life printed. ``extra``: of its environment. A context manager that ends the process and the mount.
    """

    def __init__(self, repository: Path, mountpoint: Path, extra: dict[str, str] | None = None) -> None:
        self.repository = repository
        self.mountpoint = mountpoint
        self._log_path = mountpoint.with_name("serve.log")
        self._process: subprocess.Popen[bytes] | None = None
        self._environment = environment(repository) | (extra or {})

    @property
    def log(self) -> str:
        return self._log_path.read_text(errors="replace")

    def spawn(self) -> None:
        """Start the process, and do not wait for anything."""
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [*program(), "serve", "--keeper", "none", str(self.mountpoint)],
                env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def start(self) -> None:
        """Start it and wait until it says that it serves: mount and control socket answer."""
        self.spawn()
        eventually(self._is_serving, "the server to serve", deadline_s=READY_S)

    def _is_serving(self) -> bool:
        status = self._running().poll()
        assert status is None, f"serve ended with {status}:\n{self.log}"
        return f"\nserving {self.repository} at {self.mountpoint}\n" in self.log

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "not started"
        return self._process

    def send(self, number: signal.Signals) -> None:
        self._running().send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait until the process is gone. Its mount stays, dead."""
        self._running().kill()
        self._running().wait()

    def stop(self) -> None:
        """SIGTERM; it has to end by itself, with exit status 0."""
        self.send(signal.SIGTERM)
        status = self._running().wait(END_S)
        assert status == 0, f"serve ended with {status}:\n{self.log}"

    def __enter__(self) -> Self:
        self.mountpoint.mkdir()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.kill()
        unmount(self.mountpoint)

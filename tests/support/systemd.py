"""What systemd does for a unit with a descriptor store, and nothing else: it keeps descriptors, and starts again.

Source: systemd's manual pages sd_notify(3), sd_listen_fds(3), systemd.service(5) on FileDescriptorStoreMax=.
"""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path
from typing import Self

from tests.support.waiting import eventually

FIRST_FD = 3
HIGH_FD = 200
END_S_MAX = 60.0

START = 'export LISTEN_PID=$$; exec "$@"'
"""systemd sets LISTEN_PID to the pid of the program that it executes."""


def _placing(fds: list[int]) -> str:
    """In the shell: move descriptors to FIRST_FD and on, by a detour, since a place may be taken by one of them."""
    moves = [f"exec {HIGH_FD + number}>&{fd}" for number, fd in enumerate(fds)]
    moves += [f"exec {FIRST_FD + number}>&{HIGH_FD + number} {HIGH_FD + number}>&-" for number in range(len(fds))]
    return "".join(f"{move}; " for move in moves)


class StandIn:
    """Runs one unit. ``said``: the states it told, in order. A context manager: the process and what it stored are gone
    afterwards."""

    def __init__(self, command: list[str], environment: dict[str, str], directory: Path) -> None:
        self.said: list[str] = []
        self.process: subprocess.Popen[bytes] | None = None
        self._command = command
        self._environment = environment
        self._address = directory / "notify"
        self._log = directory / "unit.log"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(self._address))
        self._stored: dict[str, int] = {}

    @property
    def stored(self) -> set[str]:
        """Names of what is in the store."""
        self._hear()
        return set(self._stored)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def start(self) -> None:
        """Start it with what is in the store, and wait until it says that it is ready."""
        self._hear()
        names, fds = list(self._stored), list(self._stored.values())
        env = self._environment | {"NOTIFY_SOCKET": str(self._address)}
        if fds:
            env |= {"LISTEN_FDS": str(len(fds)), "LISTEN_FDNAMES": ":".join(names)}
        already = self.said.count("READY=1")
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                ["/bin/bash", "-c", _placing(fds) + START, "bash", *self._command],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=fds,
            )
        eventually(lambda: self._is_ready(already), "the unit is ready", deadline_s=END_S_MAX)

    def _is_ready(self, already: int) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log
        self._hear()
        return self.said.count("READY=1") > already

    def _hear(self) -> None:
        while True:
            try:
                message, fds, _, _ = socket.recv_fds(self._socket, 4096, 8)
            except BlockingIOError:
                return
            lines = message.decode().splitlines()
            self.said.append(lines[0])
            name = next((line.removeprefix("FDNAME=") for line in lines if line.startswith("FDNAME=")), "")
            if "FDSTORE=1" in lines:
                [self._stored[name]] = fds
            if "FDSTOREREMOVE=1" in lines and name in self._stored:
                os.close(self._stored.pop(name))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self._hear()
        for fd in self._stored.values():
            os.close(fd)
        self._socket.close()

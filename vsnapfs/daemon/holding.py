"""Who holds what must outlive a worker: the device, the keep, the lock of the repository.

* none: this process alone; the mount ends with it
* process: a keeper (daemon.keeper), at the other end of a line
* systemd: its descriptor store; a unit that is started again gets its descriptors back

Source: docs/architecture.md, section on the keeper.
"""

from __future__ import annotations

import array
import os
import socket
from pathlib import Path
from typing import Literal

import msgspec
from sdnotify import SystemdNotifier

from vsnapfs.binding import Keep, make_keep, resumable
from vsnapfs.core.errors import StoreError, UsageError
from vsnapfs.daemon.wire import ErrorObject, error_of
from vsnapfs.repository.layout import Layout
from vsnapfs.repository.lock import OwnerLock
from vsnapfs.tree.fuse import Connection, Device, Wanted, mount_device

Kind = Literal["none", "process", "systemd"]

MESSAGE_BYTES_MAX = 16384
FIRST_PASSED_FD = 3
READY = b"ready"
PREFIX = "vsnapfs-"


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """Descriptors that a keeper gives its worker, and what they are of. -1: none."""

    line: int
    keep: int
    lock: int = -1
    device: int = -1
    mountpoint: str = ""
    background: bool = False
    """Nobody reads what the worker prints: it logs to syslog."""


class Mounted(msgspec.Struct):
    """A keeper's answer to a Wanted; the descriptor comes along. Exactly one member is there."""

    mountpoint: str | None = None
    error: ErrorObject | None = None


class Holding(Connection):
    """Held by nobody but this process.

    ``kind``; ``pid``: whom to signal to end it all; ``locked``: the repository's lock is held already; ``left_fd``:
    becomes readable when the holder has gone, None: it cannot.
    """

    kind: Kind = "none"
    locked = False
    left_fd: int | None = None

    @property
    def pid(self) -> int:
        return os.getpid()

    def ready(self) -> None:
        """The mount answers."""

    def end(self) -> None:
        """The mount has ended as it should; nothing is to be kept."""


class KeeperHolding(Holding):
    """Held by the keeper that started this worker."""

    kind: Kind = "process"

    def __init__(self, given: Given) -> None:
        """Takes the descriptors over."""
        self.keep = Keep(given.keep)
        os.close(given.keep)
        self._line = socket.socket(fileno=given.line)
        self._lock_fd = given.lock
        self._device_fd = given.device
        self.locked = given.lock >= 0
        self.left_fd = self._line.fileno()
        self.resumed = Device(given.device, given.mountpoint) if given.device >= 0 else None

    @property
    def pid(self) -> int:
        return os.getppid()

    def device(self, wanted: Wanted) -> Device:
        self._line.send(msgspec.json.encode(wanted))
        message, fds, _, _ = socket.recv_fds(self._line, MESSAGE_BYTES_MAX, 1)
        if not message:
            raise StoreError("the keeper ended before it had mounted")
        answer = msgspec.json.decode(message, type=Mounted)
        if answer.error is not None or answer.mountpoint is None:
            raise error_of(answer.error) if answer.error else StoreError("the keeper did not mount")
        self._device_fd = fds[0]
        return Device(fds[0], answer.mountpoint)

    def ready(self) -> None:
        self._line.send(READY)

    def close(self) -> None:
        super().close()
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1
        self._line.close()


class SystemdHolding(Holding):
    """Held by systemd's descriptor store, under the names vsnapfs-device, vsnapfs-keep and vsnapfs-lock. The unit says
    FileDescriptorStoreMax=3 and starts a worker again that was killed."""

    kind: Kind = "systemd"

    def __init__(self, repository: Path, *, live: bool) -> None:
        """Take what is in the store, or begin. Raises: UsageError: systemd did not start this process. LockedError."""
        if "NOTIFY_SOCKET" not in os.environ:
            raise UsageError("systemd did not start this process", hint="use --keeper process")
        stored = _stored()
        self._lock: OwnerLock | None = None
        self.locked = live
        if "keep" not in stored:
            stored["keep"] = make_keep()
            if live:
                layout = Layout(repository)
                self._lock = OwnerLock(layout)
                layout.close()
                _store("lock", self._lock.fd)
            _store("keep", stored["keep"])
        self._fds = stored
        self.keep = Keep(stored["keep"])
        self._device_fd = stored.pop("device", -1)
        self.resumed = None
        if self._device_fd >= 0 and resumable(self.keep):
            self.resumed = Device(self._device_fd, os.readlink(f"/proc/self/fd/{self._device_fd}"))

    def device(self, wanted: Wanted) -> Device:
        device = mount_device(wanted, self.keep)
        self._device_fd = device.fd
        _store("device", device.fd)
        return device

    def end(self) -> None:
        for name in ("device", "keep", "lock"):
            SystemdNotifier().notify(f"FDSTOREREMOVE=1\nFDNAME={PREFIX}{name}")

    def close(self) -> None:
        super().close()
        for fd in self._fds.values():
            os.close(fd)
        self._fds = {}
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def _stored() -> dict[str, int]:
    """Descriptors that systemd has kept for us, by what they are."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return {}
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    fds = {name.removeprefix(PREFIX): FIRST_PASSED_FD + number for number, name in enumerate(names) if name}
    for fd in fds.values():
        os.set_inheritable(fd, False)
    return fds


def _store(name: str, fd: int) -> None:
    """Give systemd a descriptor to keep."""
    address = os.environ["NOTIFY_SOCKET"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.connect("\0" + address[1:] if address.startswith("@") else address)
        message = f"FDSTORE=1\nFDNAME={PREFIX}{name}".encode()
        sock.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]).tobytes())])

"""Who holds what must outlive a worker: the device, the keep, the lock of the repository.

* none: this process alone; the mount ends with it
* process: a keeper (daemon.keeper), at the other end of a line
* systemd: its descriptor store; a unit that is started again gets its descriptors back

Source: docs/architecture.md, section on the keeper.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Literal

import msgspec
from sdnotify import SystemdNotifier

from vsnapfs.binding import Keep, Transport, mounted_at, resumable
from vsnapfs.core.errors import StoreError, UsageError
from vsnapfs.daemon.wire import ErrorObject, error_of
from vsnapfs.repository.lock import lock_repository
from vsnapfs.tree.fuse import Connection, Device, Wanted, mount_device

Kind = Literal["none", "process", "systemd"]

MESSAGE_BYTES_MAX = 16384
FIRST_PASSED_FD = 3
READY = b"ready"
PREFIX = "vsnapfs-"
BROKE = 70
"""Exit status of a process that met a defect, as EX_SOFTWARE of sysexits.h."""


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """Descriptors that a keeper gives its worker, by number. -1: none."""

    line: int
    keep: int
    lock: int = -1
    device: int = -1
    """Of the mount that the worker before has served."""
    background: bool = False
    """Nobody reads what the worker prints."""


class Mounted(msgspec.Struct):
    """A keeper's answer to a Wanted; the descriptor comes along. Exactly one member is there."""

    mountpoint: str | None = None
    error: ErrorObject | None = None


class Holding(Connection):
    """Held by nobody but this process.

    ``kind``; ``locked``: the repository's lock is held for longer than this process; ``left_fd``: becomes readable when
    the holder has gone, None: it cannot.
    """

    kind: Kind = "none"
    locked: bool = False
    left_fd: int | None = None

    @property
    def pid(self) -> int:
        """Whom to signal to end it all."""
        return os.getpid()

    def ready(self) -> None:
        """The mount answers."""

    def ended(self) -> None:
        """The mount has ended as it should: there is nothing to hold any more."""


class _Held(Holding):
    """Another process goes on, so a defect is no reason to take the mount away."""

    def transport(self, chosen: Transport | Literal["auto"], *, live: bool) -> Transport | Literal["auto"]:
        """Live volumes by the device unless somebody insists: the kernel does not send again what was lost in a ring."""
        return "device" if chosen == "auto" and live else chosen

    def broke(self) -> None:
        """Without a word to the mount, the repository or the threads that serve: what they have is in the keep."""
        os._exit(BROKE)


class KeeperHolding(_Held):
    """Held by the keeper that started this worker."""

    kind: Kind = "process"

    def __init__(self, given: Given) -> None:
        """Takes the descriptors over."""
        self.keep = Keep(given.keep)
        os.close(given.keep)
        self._line = socket.socket(fileno=given.line)
        self._lock_fd = given.lock
        self._device_fd = given.device
        self._keeper_pid = os.getppid()
        self.locked = given.lock >= 0
        self.left_fd = self._line.fileno()
        self.resumed = Device(given.device, mounted_at(self.keep)) if given.device >= 0 else None

    @property
    def pid(self) -> int:
        return self._keeper_pid

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
        try:
            self._line.send(READY)
        except OSError:
            return  # it has died; who waits for its end on ``left_fd`` ends this in order

    def close(self) -> None:
        super().close()
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1
        self._line.close()


class SystemdHolding(_Held):
    """Held by systemd's descriptor store, under the names vsnapfs-device, vsnapfs-keep and vsnapfs-lock. The unit has
    FileDescriptorStoreMax= and starts a worker again that was killed."""

    kind: Kind = "systemd"

    def __init__(self, repository: Path, *, live: bool) -> None:
        """Take what is in the store, or begin. Raises: UsageError: systemd did not start this process. LockedError. What
        opening the repository raises."""
        if "NOTIFY_SOCKET" not in os.environ:
            raise UsageError("systemd did not start this process", hint="leave --keeper systemd away")
        self._stored = _stored()
        self._lock = lock_repository(repository, self._stored.get("lock")) if live else None
        self.locked = live
        if "keep" not in self._stored:
            self._stored["keep"] = Keep.make()
            _store("keep", self._stored["keep"])
        if self._lock is not None and "lock" not in self._stored:
            _store("lock", self._lock.fd)
        self.keep = Keep(self._stored["keep"])
        self.resumed = None
        self._device_fd = self._stored.get("device", -1)
        if self._device_fd >= 0 and resumable(self.keep):
            self.resumed = Device(self._device_fd, mounted_at(self.keep))

    def device(self, wanted: Wanted) -> Device:
        if self._device_fd >= 0:  # of a mount that this kernel cannot resume: it dies with its last descriptor
            _forget("device")
            os.close(self._device_fd)
        device = mount_device(wanted, self.keep)
        self._device_fd = device.fd
        _store("device", device.fd)
        return device

    def ended(self) -> None:
        for name in ("device", "keep", "lock"):
            _forget(name)

    def close(self) -> None:
        super().close()
        if (keep_fd := self._stored.pop("keep", None)) is not None:
            os.close(keep_fd)
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def given_from(text: str) -> Given:
    """What ``--worker`` says. Raises: UsageError."""
    try:
        return msgspec.json.decode(text, type=Given)
    except msgspec.DecodeError as error:
        raise UsageError("--worker is for the keeper alone") from error


def holding_of(kind: Literal["none", "systemd"], repository: Path, *, live: bool) -> Holding:
    """A Holding without a keeper of ours. live: for the owner of the repository. Raises: as SystemdHolding."""
    return SystemdHolding(repository, live=live) if kind == "systemd" else Holding()


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
        socket.send_fds(sock, [f"FDSTORE=1\nFDNAME={PREFIX}{name}".encode()], [fd])


def _forget(name: str) -> None:
    SystemdNotifier().notify(f"FDSTOREREMOVE=1\nFDNAME={PREFIX}{name}")

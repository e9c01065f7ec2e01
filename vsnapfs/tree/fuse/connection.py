"""Where a mount's device comes from, and who holds what must outlive the process that serves it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import msgspec

from vsnapfs.binding import Keep, Transport, mount
from vsnapfs.tree.mountpoint import prepare


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A mount that is asked for."""

    mountpoint: str
    source: str
    """The repository's path, as the mount table shows it."""
    allow_other: bool
    read_only: bool
    transport: Transport | Literal["auto"]


class Device(msgspec.Struct, frozen=True):
    """A mounted device. fd belongs to the Connection."""

    fd: int
    mountpoint: str
    """Absolute, without symlinks."""


def mount_device(wanted: Wanted, keep: Keep) -> Device:
    """Mount; the caller closes the descriptor. Raises: what ``mountpoint.prepare`` and ``binding.mount`` raise."""
    target = prepare(Path(wanted.mountpoint), Path(wanted.source))
    fd = mount(
        str(target),
        wanted.source,
        keep,
        allow_other=wanted.allow_other,
        read_only=wanted.read_only,
        transport=wanted.transport,
    )
    return Device(fd, str(target))


class Connection:
    """A device and a keep of this process alone: the mount ends with it.

    Others hold both elsewhere (daemon.holding), so that the next process can go on. ``keep``: this worker's memory that
    outlives it. ``resumed``: the device of the worker before, or None: nothing is mounted yet. Threads: any, one call at
    a time; calls may block.
    """

    def __init__(self) -> None:
        fd = Keep.make()
        try:
            self.keep = Keep(fd)
        finally:
            os.close(fd)
        self.resumed: Device | None = None
        self._device_fd = -1

    def transport(self, chosen: Transport | Literal["auto"], *, live: bool) -> Transport | Literal["auto"]:
        """What to mount with. live: with volumes that are written to."""
        return chosen

    def device(self, wanted: Wanted) -> Device:
        """Mount. Raises: as ``mount_device``."""
        device = mount_device(wanted, self.keep)
        self._device_fd = device.fd
        return device

    def broke(self) -> None:
        """Serving ended by a defect. Whoever has another process to go on with does not return from here."""

    def close(self) -> None:
        """After the mount has ended and the repository is closed. Twice is allowed."""
        if self._device_fd >= 0:
            os.close(self._device_fd)
            self._device_fd = -1
        self.keep.close()

"""``fsfreeze``: a mounted filesystem, frozen by the kernel.

Freezing writes out what is dirty first, and returns when it is on the device and all writers wait. So a filesystem on a loop
device on a live volume is in the journal, consistent, when ``freeze`` has returned.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Sequence
from pathlib import Path

from vsnapfs.core.errors import (
    BusyError,
    NotStillError,
    PermissionDeniedError,
    QuiesceError,
    TimedOutError,
    UsageError,
    VsnapfsError,
    from_os_error,
)
from vsnapfs.core.model import Consistency, MemberFile
from vsnapfs.mounts.table import MountEntry, entry_of_fd
from vsnapfs.policy.profiles import FsfreezeSettings
from vsnapfs.quiesce.ground import Ground, lies_on
from vsnapfs.quiesce.member import Lifeline, MountLifeline

FIFREEZE = 0xC0045877
FITHAW = 0xC0045878
"""linux/fs.h; the filesystem of any open descriptor."""
KINDS = Path("/proc/filesystems")


def thaw_by(fd: int) -> bool:
    """Thaw the filesystem of a descriptor. False: it was not frozen. Raises: OSError."""
    try:
        fcntl.ioctl(fd, FITHAW, 0)
    except OSError as error:
        if error.errno == errno.EINVAL:
            return False
        raise
    return True


class FsfreezeMember:
    """Member of kind fsfreeze. grounds: what must not be made still."""

    kind = "fsfreeze"
    consistency: Consistency = "filesystem"
    files: tuple[MemberFile, ...] = ()

    def __init__(self, settings: FsfreezeSettings, grounds: Sequence[Ground]) -> None:
        self.name = settings.name
        self._mountpoint = settings.mountpoint
        self._grounds = grounds
        self._fd = -1
        self._frozen = False

    def prepare(self, until: float) -> None:
        """Raises: QuiesceError: nothing is mounted there. UsageError: a filesystem that cannot be frozen, or must not."""
        try:
            self._fd = os.open(self._mountpoint, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            mount = entry_of_fd(self._fd)
        except OSError as error:
            raise from_os_error(error, f"freeze {self._mountpoint}") from error
        if mount is None or mount.path != os.path.realpath(self._mountpoint):
            where = "" if mount is None else f", but lies in what is mounted on {mount.path}"
            raise QuiesceError(f"{self._mountpoint} is not a mount point{where}")
        if mount.filesystem_type in _kinds_without_device():
            raise UsageError(f"{self._mountpoint} is {mount.filesystem_type}, which cannot be frozen")
        self._refuse_ground(mount)

    def _refuse_ground(self, mount: MountEntry) -> None:
        for ground in self._grounds:
            try:
                below = [found.device for found in lies_on(ground.path)]
            except OSError as error:
                raise from_os_error(error, f"see what {ground.what}, {ground.path}, lies on") from error
            if mount.device in below:
                raise UsageError(
                    f"{self._mountpoint} must not be frozen: {ground.what}, {ground.path}, lies on it",
                    hint="only what lies on a live volume, or elsewhere, can be a member",
                )

    def lifeline(self) -> Lifeline | None:
        return MountLifeline(self._fd) if self._fd >= 0 else None

    def freeze(self, until: float) -> None:
        """Not to be interrupted once the kernel is at it: it ends when the device has taken what was dirty."""
        if time.monotonic() >= until:
            raise TimedOutError(f"no time was left to freeze {self._mountpoint}")
        try:
            fcntl.ioctl(self._fd, FIFREEZE, 0)
        except OSError as error:
            raise self._refused(error) from error
        self._frozen = True

    def _refused(self, error: OSError) -> VsnapfsError:
        if error.errno == errno.EBUSY:
            return BusyError(
                f"{self._mountpoint} is frozen already, by somebody else",
                hint=f"if nobody will thaw it: fsfreeze --unfreeze {self._mountpoint}",
            )
        if error.errno == errno.EOPNOTSUPP:
            return UsageError(f"the filesystem on {self._mountpoint} cannot be frozen")
        if error.errno == errno.EPERM:
            return PermissionDeniedError(f"{self._mountpoint}: only root may freeze a filesystem")
        return QuiesceError(f"cannot freeze {self._mountpoint}: {error.strerror}")

    def thaw(self) -> None:
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        try:
            if self._frozen and not thaw_by(fd):
                raise NotStillError(f"{self._mountpoint} was thawed by somebody else before its time")
        except OSError as error:
            raise QuiesceError(f"cannot thaw {self._mountpoint}: {error.strerror}") from error
        finally:
            self._frozen = False
            os.close(fd)


def _kinds_without_device() -> set[str]:
    lines = KINDS.read_text(encoding="ascii").splitlines()
    return {kind for nodev, _, kind in (line.partition("\t") for line in lines) if nodev}

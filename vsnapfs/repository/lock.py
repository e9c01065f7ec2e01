"""One writer: the file ``lock`` and who holds it.

The lock is the kernel's (flock), on the inode: it ends with the processes that hold it, however they die, and it holds
between mount namespaces and containers. The pid inside is only for people to read; it is that of the holder's own
namespace, so where the kernel can say who holds the lock as seen from here, that is said.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path

from vsnapfs.core.errors import LockedError, from_os_error
from vsnapfs.repository import identity, trust
from vsnapfs.repository.layout import LOCK, Layout

PID_BYTES_MAX = 32
WAIT_S = 1.0
LOOK_EVERY_S = 0.02
LOCKS = Path("/proc/locks")


class OwnerLock:
    """The right to change a repository, held until ``release``. ``fd`` may be handed to another process, which has the
    right too as long as it keeps it open."""

    def __init__(self, layout: Layout, fd: int | None = None) -> None:
        """fd: of a process before, which is dead and whose right goes on; taken over.

        Raises: LockedError: another process has it, with its pid. PermissionDeniedError, ReadOnlyError.
        """
        self.fd = layout.open(LOCK, os.O_RDWR | os.O_CREAT) if fd is None else fd
        try:
            take(self.fd)
            _name_holder(self.fd)
        except BlockingIOError as error:
            pid = _pid(self.fd)
            os.close(self.fd)
            raise _locked(layout, pid) from error
        except OSError as error:
            os.close(self.fd)
            raise from_os_error(error, f"lock {layout.absolute(LOCK)}") from error

    def release(self) -> None:
        os.ftruncate(self.fd, 0)
        os.close(self.fd)


def _name_holder(fd: int) -> None:
    """For whoever finds it locked. A disk without room for that keeps nobody from pruning."""
    os.ftruncate(fd, 0)
    try:
        os.pwrite(fd, b"%d\n" % os.getpid(), 0)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise


def take(fd: int) -> None:
    """A command, or another repository's server that asks this one, has the lock for a moment only: nobody has to fail for
    that. Raises: BlockingIOError: it is held for longer."""
    end_s = time.monotonic() + WAIT_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end_s:
                raise
            time.sleep(LOOK_EVERY_S)
        else:
            return


def lock_repository(path: Path, fd: int | None = None) -> OwnerLock:
    """The lock of the repository at ``path``, for who opens it later or in another process. fd: as in OwnerLock.

    Raises: NotFoundError, FormatUnknownError, PermissionDeniedError: before a file is made there. What OwnerLock raises.
    """
    layout = identity.find(path)
    try:
        trust.require(layout, owner=True)
        identity.read(layout)
        return OwnerLock(layout, fd)
    finally:
        layout.close()


def is_held(path: Path) -> bool:
    """Whether a process has the lock of the repository at ``path`` at this moment. Who may not look is told that none has."""
    try:
        fd = os.open(path / LOCK, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(fd)


def _pid(fd: int) -> int | None:
    seen = _pid_seen_from_here(os.fstat(fd))
    if seen is not None:
        return seen
    text = os.pread(fd, PID_BYTES_MAX, 0).strip()
    return int(text) if text.isdigit() else None


def _pid_seen_from_here(found: os.stat_result) -> int | None:
    """Who took the lock; None: a process that has handed it on and ended, or that this namespace does not have."""
    wanted = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    try:
        lines = LOCKS.read_text().splitlines()
    except OSError:
        return None  # a container that does not show it
    for line in lines:
        words = line.split()
        if words[1] == "FLOCK" and words[5] == wanted and int(words[4]) > 0:
            return int(words[4])
    return None


def _locked(layout: Layout, pid: int | None) -> LockedError:
    holder = f"process {pid}" if pid is not None else "another process"
    return LockedError(
        f"{layout.path} is in use by {holder}", pid=pid, hint="stop it first, or work through its server"
    )

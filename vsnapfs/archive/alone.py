"""The right to write archives to a medium: a lock of the kernel's, which ends with whoever has it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vsnapfs.core.errors import BusyError, from_os_error
from vsnapfs.repository.lock import take


@contextmanager
def alone(repository: Path, medium: str) -> Iterator[None]:
    """Be the only one who writes archives to a medium. Raises: BusyError: somebody else does."""
    path = _path(repository, medium)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise from_os_error(error, f"lock {path}") from error
    try:
        _lock(fd, medium)
        yield
    finally:
        os.close(fd)


def is_under_way(repository: Path, medium: str) -> bool:
    """Somebody writes an archive to a medium. Where nobody can tell, somebody may."""
    try:
        fd = os.open(_path(repository, medium), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def _path(repository: Path, medium: str) -> Path:
    return repository / f"archive-{medium}.lock"


def _lock(fd: int, medium: str) -> None:
    """Who only looks has it for a moment: nobody has to fail for that."""
    try:
        take(fd)
    except BlockingIOError as error:
        what = f"another archive to {medium} is under way"
        raise BusyError(what, hint="try again when it has ended") from error

"""Files that are written for a user: what may stand where they go, and how one that is complete gets its name.

Nothing that exists is replaced without ``force``; no symlink is followed even then. All that happens to a new file is in the directory
that was found at the beginning, whatever is put under its path meanwhile.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vsnapfs.core.errors import (
    NameTakenError,
    PermissionDeniedError,
    UsageError,
    VsnapfsError,
    from_os_error,
    with_hint,
)

PARTIAL = ".partial"
"""Ends the name of a file that is not complete."""


def look(to: Path, force: bool) -> os.stat_result | None:
    """What stands at the target, None if nothing; refuses what must stay as it is."""
    try:
        found = to.lstat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise from_os_error(error, f"write {to}") from error
    if stat.S_ISDIR(found.st_mode):
        raise UsageError(f"{to} is a directory", hint="give the name of a file in it")
    if not force:
        raise taken(to)
    if stat.S_ISLNK(found.st_mode):
        raise PermissionDeniedError(f"{to} is a symlink, which is not followed", hint="give the file itself")
    return found


def publish(directory_fd: int, partial: str, to: Path, *, force: bool) -> None:
    """Give the complete file its name, durably."""
    if force:
        os.replace(partial, to.name, src_dir_fd=directory_fd, dst_dir_fd=directory_fd)
    else:
        rename_to_free_name(directory_fd, partial, to)
    os.fsync(directory_fd)


def rename_to_free_name(directory_fd: int, partial: str, to: Path) -> None:
    """A link cannot replace a file that came meanwhile; where a filesystem has no links, looking must do."""
    try:
        os.link(partial, to.name, src_dir_fd=directory_fd, dst_dir_fd=directory_fd, follow_symlinks=False)
    except FileExistsError as error:
        raise taken(to) from error
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        if _is_there(directory_fd, to.name):
            raise taken(to) from error
        os.rename(partial, to.name, src_dir_fd=directory_fd, dst_dir_fd=directory_fd)
    else:
        os.unlink(partial, dir_fd=directory_fd)


def _is_there(directory_fd: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=directory_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def taken(to: Path) -> NameTakenError:
    return NameTakenError(f"{to} exists already", hint="--force writes over it")


@contextmanager
def failures_named(target: str, partial: Path | None) -> Iterator[None]:
    """Errors of the block say what was being written, and where the part that was written is."""
    try:
        yield
    except OSError as error:
        raise _told(from_os_error(error, f"write {target}"), partial) from error
    except VsnapfsError as error:
        raise _told(error, partial) from error


def _told(error: VsnapfsError, partial: Path | None) -> VsnapfsError:
    return error if partial is None else with_hint(error, f"what was written is in {partial}")

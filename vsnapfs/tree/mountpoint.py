"""The directory that is mounted on: whether it can be, what is on it now. No FUSE in here.

A mount whose server died by kill -9 answers ENOTCONN. If it is one of ours, of the same repository, it is taken away,
so that starting again is all that is needed; any other is left to its owner.
"""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from pathlib import Path

import structlog

from vsnapfs.core.errors import BusyError, NotFoundError, StoreError, UsageError, from_os_error
from vsnapfs.mounts.table import UNSERVED, VSNAPFS, MountEntry, entry_of

log = structlog.get_logger(__name__)


def prepare(mountpoint: Path, repository: Path) -> Path:
    """The absolute path to mount on, freed of a dead mount of this repository.

    Raises: NotFoundError: missing. UsageError: not a directory, or in the way of the repository. BusyError: vsnapfs
    is mounted there, or something else that is dead.
    """
    target = Path(os.path.abspath(mountpoint))
    existing = entry_of(target)
    if _is_dead(target):
        _take_away(target, existing, repository)
    else:
        existing = entry_of(target)  # what was there before may have ended since
        if existing is not None and existing.filesystem_type == VSNAPFS:
            raise BusyError(f"{target} already shows {existing.source}", hint=f"umount {target} first")
    target = target.resolve()
    inside = repository.resolve()
    if target == inside or target in inside.parents or inside in target.parents:
        raise UsageError(f"{target} and the repository {inside} overlap", hint="mount on a directory of its own")
    return target


def _is_dead(target: Path) -> bool:
    """True for a mount without a server. Raises: as ``prepare``."""
    try:
        os.statvfs(target)  # asks the server; the kernel answers stat of a dead mount from what it remembers
        mode = target.stat().st_mode
    except OSError as error:
        if error.errno in UNSERVED:
            return True
        if error.errno == errno.ENOENT:
            raise NotFoundError(f"{target} is not there", hint=f"make it first: mkdir -p {target}") from error
        raise from_os_error(error, f"mount on {target}") from error
    if not stat.S_ISDIR(mode):
        raise UsageError(f"{target} is not a directory", hint="a mount needs a directory")
    return False


def _take_away(target: Path, existing: MountEntry | None, repository: Path) -> None:
    ours = existing is not None and existing.filesystem_type == VSNAPFS and existing.source == str(repository)
    if not ours:
        whose = f"{existing.filesystem_type} of {existing.source}" if existing else "something"
        raise BusyError(f"{target} is a dead mount of {whose}", hint=f"umount -l {target} first")
    log.warning("took away the mount of a server that died", mountpoint=str(target))
    command = ["umount", "-l"] if os.geteuid() == 0 else ["fusermount3", "-u", "-z"]
    done = subprocess.run([*command, "--", str(target)], check=False, capture_output=True, text=True)
    if done.returncode != 0 and _is_dead(target):  # else somebody else has done it
        raise StoreError(f"cannot umount the dead mount {target}: {done.stderr.strip()}")

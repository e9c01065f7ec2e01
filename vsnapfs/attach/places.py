"""Where a volume is in a tree: of a point, or of a branch."""

from __future__ import annotations

import os
from pathlib import Path

from vsnapfs.core.errors import NotFoundError, PermissionDeniedError, UsageError, from_os_error
from vsnapfs.core.names import MANIFEST, near
from vsnapfs.mounts.table import VSNAPFS, entry_around

BRANCH = "branch:"
"""What stands before a branch's name where a point could stand."""


SEQNO = "user.vsnapfs.seqno"


def branch_of(text: str) -> str | None:
    """The branch that a text names; None: it names a point."""
    return text.removeprefix(BRANCH) if text.startswith(BRANCH) else None


def file_of(tree: Path, text: str, volume: str) -> Path:
    """A volume's file below the mount of a tree. text: a point as people give it, or ``branch:NAME``.

    Raises: NotFoundError: the tree, the point, the branch, or the volume is not there. PermissionDeniedError: the mount is
    another user's, who does not let root see it. UsageError: a name that is none.
    """
    entry = entry_around(tree)
    if entry is None or entry.filesystem_type != VSNAPFS or entry.path != str(tree):
        raise NotFoundError(f"vsnapfs is not mounted on {tree}", hint="start `vsnapfs serve` or `vsnapfs mount`")
    branch = branch_of(text)
    for name in (text if branch is None else branch, volume):
        if not name or "/" in name or name in (".", ".."):
            raise UsageError(f"{name!r} is no name", hint="give a point or branch:NAME, and a volume")
    directory = _exact(tree, text) if branch is None else tree / "branches" / branch
    _look(directory, f"no branch {branch!r}")
    if not _look(directory / volume, None):
        others = [name for name in sorted(os.listdir(directory)) if name != MANIFEST]
        raise NotFoundError(
            f"no volume {volume!r} at {text}", near=near(volume, others), hint=f"it has {', '.join(others)}"
        )
    return directory / volume


def _exact(tree: Path, text: str) -> Path:
    """The directory of a point by its seqno: ``-5min`` would be another each time that it is looked up."""
    directory = tree / "at" / text
    _look(directory, f"no point {text!r}")
    return tree / "at" / f"@{os.getxattr(directory, SEQNO).decode()}"


def _look(path: Path, missing: str | None) -> bool:
    """Whether it is there. missing: what to say if it is not; None: that is for the caller."""
    try:
        os.stat(path)
    except FileNotFoundError as error:
        if missing is None:
            return False
        raise NotFoundError(f"{missing} in {path.parent.parent}") from error
    except PermissionError as error:
        raise PermissionDeniedError(
            f"not allowed to look into {path}", hint="mount it as root, or with --allow-other"
        ) from error
    except OSError as error:
        raise from_os_error(error, f"look at {path}") from error
    return True

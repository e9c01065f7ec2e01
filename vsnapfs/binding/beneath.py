"""Names below a directory, opened so that none leads out of it.

Source: native/include/beneath.h.
"""

from __future__ import annotations

import os

from vsnapfs.binding._native import lib


def open_beneath(dir_fd: int, path: str, flags: int, mode: int) -> int:
    """As os.open with ``dir_fd``, but no component may be a symlink (ELOOP), and ``mode`` is what a file that is made
    has, whatever the umask. Raises: OSError: EINVAL for a path that is absolute or has ``..``."""
    name = os.fsencode(path)
    if b"\0" in name:
        raise ValueError("a path has no NUL")
    fd = int(lib.vs_open_beneath(dir_fd, name, flags, mode))
    if fd < 0:
        raise OSError(-fd, os.strerror(-fd), path)
    return fd

"""Which points are open, in this process and in any other: shared locks on bytes of the file ``leases``, byte s for the
point s (native/src/leases.h). They are only looked at here, through a descriptor of our own.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from vsnapfs.core.errors import NotFoundError, from_os_error
from vsnapfs.repository.layout import LEASES, Layout

POINTS_END = 1 << 62
"""Bytes from here on are for directories of segments."""

_FLOCK = struct.Struct("hhqqi4x")
"""struct flock of 64-bit Linux: type, whence, start, length, pid."""


def leased(layout: Layout) -> list[int]:
    """The points that somebody has open, ascending. None where nobody can lock: there readers go on without."""
    try:
        fd = layout.open(LEASES, os.O_RDONLY)  # enough for who asks, also where nothing can be written
    except NotFoundError:
        return []
    try:
        return _locked(fd, 1, POINTS_END)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
            return []
        raise from_os_error(error, f"look at {layout.absolute(LEASES)}") from error
    finally:
        os.close(fd)


def _locked(fd: int, begin: int, end: int) -> list[int]:
    """The kernel tells one lock at a time, in no order, and neighbours as one."""
    found: list[int] = []
    left = [(begin, end)]
    while left:
        begin, end = left.pop()
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, begin, end - begin, 0)
        kind, _, start, length, _ = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked))
        if kind == fcntl.F_UNLCK:
            continue
        last = min(end, start + length) if length else end
        start = max(begin, start)
        found += range(start, last)
        left += [(low, high) for low, high in ((begin, start), (last, end)) if low < high]
    return sorted(found)

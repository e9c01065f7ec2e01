"""One file through pyfuse3, each read in Python: what anybody would write first, for comparison.

``python -m benchmarks.pyfuse3_file FILE MOUNT``; ``umount MOUNT`` ends it.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from typing import Any

import pyfuse3
import trio

FILE = pyfuse3.InodeT(2)


class PassThrough(pyfuse3.Operations):
    enable_writeback_cache = False

    def __init__(self, path: str) -> None:
        super().__init__()
        self._fd = os.open(path, os.O_RDONLY)

    async def getattr(self, inode: Any, ctx: Any = None) -> pyfuse3.EntryAttributes:
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = inode
        entry.st_mode = pyfuse3.ModeT(stat.S_IFREG | 0o444 if inode == FILE else stat.S_IFDIR | 0o555)
        entry.st_size = os.fstat(self._fd).st_size if inode == FILE else 0
        entry.entry_timeout = entry.attr_timeout = 300
        return entry

    async def lookup(self, parent_inode: Any, name: bytes, ctx: Any) -> pyfuse3.EntryAttributes:
        if name != b"volume":
            raise pyfuse3.FUSEError(errno.ENOENT)
        return await self.getattr(FILE)

    async def open(self, inode: Any, flags: Any, ctx: Any) -> pyfuse3.FileInfo:
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(inode), keep_cache=True)

    async def read(self, fh: Any, off: int, size: int) -> bytes:
        return os.pread(self._fd, size, off)


if __name__ == "__main__":
    pyfuse3.init(PassThrough(sys.argv[1]), sys.argv[2], {*pyfuse3.default_options, "fsname=passthrough"})
    try:
        trio.run(pyfuse3.main)
    finally:
        pyfuse3.close(unmount=True)

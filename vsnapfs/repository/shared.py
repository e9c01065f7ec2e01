"""Blocks that a new file shares with segments and base images, where the filesystem can do that (reflinks of XFS, btrfs …).

A run of a view is shared if it is long enough to be worth an extent of its own. Nobody has compared it with its checksums then, and a
compaction or a move of the base may have come between; so whoever calls this reads the file, and compares it with the view.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from contextlib import ExitStack
from typing import Self

from vsnapfs.binding import Run, RunKind, View
from vsnapfs.core.errors import VsnapfsError
from vsnapfs.repository.layout import base_image, segment
from vsnapfs.repository.parts import Parts
from vsnapfs.repository.sparse import BLOCK_BYTES

FICLONERANGE = 0x4020940D
"""ioctl: share a range of another file; uapi/linux/fs.h."""
_RANGE = struct.Struct("qQQQ")
"""struct file_clone_range: source, its offset, length, offset in the target."""
RUN_BYTES_MIN = 64 << 10
FILES_MAX = 64
"""So many segments are open at once."""
NEVER = (errno.EXDEV, errno.EOPNOTSUPP, errno.ENOTTY, errno.ENOSYS, errno.EPERM)
"""It cannot be done with these filesystems; any other error is one of a range."""


def share(parts: Parts, volume: int, view: View, fd: int, from_bytes: int) -> int:
    """Let the open file ``fd`` have what it can of ``view``, of volume ``volume``, from an offset on. Returns the bytes shared.

    What could not be shared is left as it was: nothing here fails.
    """
    done = 0
    with _Files(parts, volume) as files:
        for run in view.places(from_bytes):
            if run.kind != RunKind.DATA or run.length_bytes < RUN_BYTES_MIN:
                continue
            begin = -(-run.offset_bytes // BLOCK_BYTES) * BLOCK_BYTES
            end = (run.offset_bytes + run.length_bytes) // BLOCK_BYTES * BLOCK_BYTES
            place = run.block * BLOCK_BYTES + begin - run.offset_bytes // BLOCK_BYTES * BLOCK_BYTES
            try:
                fcntl.ioctl(fd, FICLONERANGE, _RANGE.pack(files.of(run), place, end - begin, begin))
                done += end - begin
            except VsnapfsError:
                continue  # the file was replaced: the view has it open, and reads it
            except OSError as error:
                if error.errno in NEVER:
                    break
    return done


class _Files:
    """Of the repository, opened as they are needed."""

    def __init__(self, parts: Parts, volume: int) -> None:
        self._layout, self._volume = parts.layout, volume
        self._generations = {facts.first_seqno: facts.generation for facts in parts.journal.segments()}
        self._open: dict[int, int] = {}
        self._stack = ExitStack()

    def of(self, run: Run) -> int:
        """The file that a run of data lies in. Raises: VsnapfsError: it is not there."""
        if run.segment not in self._open:
            if len(self._open) == FILES_MAX:
                self._close()
            generation = self._generations.get(run.segment, 0)
            name = segment(run.segment, generation) if run.segment else base_image(self._volume)
            self._open[run.segment] = self._layout.open(name, os.O_RDONLY)
            self._stack.callback(os.close, self._open[run.segment])
        return self._open[run.segment]

    def _close(self) -> None:
        self._stack.close()
        self._open.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

"""Kernel views of one mount: whether they can be had, and the opens that use them.

All opens of one inode are of one kind, since the kernel keeps either its own cache of the file or none: the first open
decides until the last one is closed. An inode stands for all points with the same last write.

Threads: any; opens of one inode come one at a time (the caller's part). Every call but ``counts`` may block.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import structlog

from vsnapfs.binding import Journal, KernelViews, Limits, Plane, View
from vsnapfs.core.errors import CorruptExtentError, UsageError, VsnapfsError
from vsnapfs.core.model import DataMode
from vsnapfs.core.state import MountData
from vsnapfs.tree.data_mode import AUTO, DataRules, Reader, limits

PROBE_INO = 0
"""An inode number that no node has."""

log = structlog.get_logger(__name__)


class KernelData:
    """scratch: directories for images, the first that serves is taken. Until ``probe`` nothing is read by the kernel.

    Resource handling: borrows journal and plane; ``close`` before them. What is open in the kernel stays so.
    """

    def __init__(self, journal: Journal, plane: Plane, rules: DataRules, scratch: Sequence[Path]) -> None:
        self.rules = rules
        self.why_not: str | None = "it was not asked for"
        self._journal = journal
        self._plane = plane
        self._scratch = scratch
        self._views: KernelViews | None = None
        self._scratch_fd = -1

    def probe(self) -> None:
        """Find out whether the kernel can do it here, and say so in the log; never fails."""
        if not self.rules.asks_kernel:
            return
        _raise_descriptors()
        for directory in self._scratch:
            self.why_not = self._try(directory)
            if self.why_not is None:
                log.info("the kernel can read volumes by itself", data=self.rules.mode, scratch=str(directory))
                return
        log.warning("all reads go through vsnapfs", data=self.rules.mode, why=self.why_not)

    def _try(self, directory: Path) -> str | None:
        """Why not with this directory; None: it works and is used from now on."""
        try:
            scratch_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            return f"{directory}: {error.strerror}"
        views = KernelViews(self._journal, scratch_fd, verify=self.rules.kernel_verify)
        try:
            with _closing(views.probe()) as fd:
                self._plane.open_backing(PROBE_INO, fd)
            self._plane.leave(PROBE_INO)
        except VsnapfsError as error:
            views.close()
            os.close(scratch_fd)
            return str(error)
        self._views, self._scratch_fd = views, scratch_fd
        return None

    def open(self, ino: int, bookmark: str | None, view: View, *, direct: bool) -> int:
        """Open a volume, whose view is taken over. Returns the plane's handle.

        direct: with O_DIRECT, which EROFS cannot do: the first such open goes through the plane. Raises: UsageError:
        direct, and the kernel reads the inode already. What the plane raises.
        """
        try:
            backing_id = self._plane.join(ino)
            if backing_id is None:
                backing_id = self._first(ino, "verify" if direct else self.rules.wanted(bookmark), view)
            elif backing_id and direct:
                self._plane.leave(ino)
                raise UsageError("O_DIRECT does not go with a file that is read by the kernel")
        except BaseException:
            view.close()
            raise
        try:
            return self._plane.add_file(view.file(), ino, backing_id)
        except BaseException:
            self._plane.leave(ino)
            raise

    def _first(self, ino: int, wanted: DataMode, view: View) -> int:
        allowed = limits(wanted, self._views is not None)
        if allowed is not None:
            try:
                backing_id = self._in_kernel(ino, view, allowed)
            except VsnapfsError as error:
                _tell(error)
            else:
                if backing_id is not None:
                    return backing_id
                if allowed is not AUTO:
                    log.warning("not ready to be read by the kernel in time; the next open goes on from there", ino=ino)
        return self._plane.open_backing(ino, None)

    def _in_kernel(self, ino: int, view: View, allowed: Limits) -> int | None:
        assert self._views is not None
        fd = self._views.open(view, allowed)
        if fd is None:
            return None
        with _closing(fd):
            return self._plane.open_backing(ino, fd)

    def reader(self, ino: int, bookmark: str | None, view: View) -> Reader:
        """Who reads the volume if it is open, else who would if it were opened now."""
        backing_id = self._plane.join(ino)
        if backing_id is not None:
            self._plane.leave(ino)
            return "kernel" if backing_id else "verify"
        allowed = limits(self.rules.wanted(bookmark), self._views is not None)
        if allowed is AUTO and self._views is not None:
            return "kernel" if self._views.fits(view, AUTO) else "verify"
        return "verify" if allowed is None else "kernel"

    def counts(self) -> MountData:
        """For ``status``."""
        through_plane, in_kernel = self._plane.open_counts()
        return MountData(
            mode=self.rules.mode,
            kernel=self._views is not None,
            why_not=None if self._views is not None else self.why_not,
            open_verify=through_plane,
            open_kernel=in_kernel,
        )

    def close(self) -> None:
        """Twice is allowed."""
        if self._views is not None:
            views, self._views = self._views, None
            views.close()
            os.close(self._scratch_fd)


def _tell(error: VsnapfsError) -> None:
    """Why a file is read through the plane though the kernel was to; damage is more than that."""
    what = "not read by the kernel: each read is compared instead"
    if isinstance(error, CorruptExtentError):
        log.error(what, why=str(error), **error.fields())
    else:
        log.warning(what, why=str(error))


def _raise_descriptors() -> None:
    """Building a view opens every segment it lies in at once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextmanager
def _closing(fd: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        os.close(fd)

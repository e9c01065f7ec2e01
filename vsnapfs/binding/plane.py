"""The data plane: /dev/fuse in C, names to pyfuse3.

Source: native/include/plane.h.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from vsnapfs.binding._native import ffi, lib
from vsnapfs.binding.faults import Fault, check, fault_from
from vsnapfs.binding.view import VolumeFile


class PlaneCount(NamedTuple):
    """Requests of one FUSE opcode in this plane's life. bytes: of file content moved."""

    requests: int
    errors: int
    bytes: int
    nanoseconds: int


class Plane:
    """A mount. Order of life: construct (mounted), pyfuse3 on ``socket_fd``, ``unmount``, ``stop``."""

    def __init__(
        self,
        mountpoint: str,
        source: str,
        *,
        allow_other: bool = False,
        read_only: bool = False,
        threads: int = 0,
    ) -> None:
        options = ffi.new("vs_plane_options *")
        point, name = ffi.new("char[]", mountpoint.encode()), ffi.new("char[]", source.encode())
        options.mountpoint, options.source = point, name
        options.allow_other, options.read_only, options.threads = allow_other, read_only, threads
        out = ffi.new("vs_plane **")
        check(lib.vs_plane_start(options, out), f"mount {mountpoint}")
        self._c: Any = out[0]

    @property
    def socket_fd(self) -> int:
        """What pyfuse3 shall open as /dev/fd/N; it is pyfuse3's to close."""
        return int(lib.vs_plane_socket(self._c))

    @property
    def ended_fd(self) -> int:
        """Becomes readable when the kernel has ended the mount; stays the plane's."""
        return int(lib.vs_plane_ended_fd(self._c))

    def add_file(self, file: VolumeFile, ino: int, backing_id: int = 0) -> int:
        """Register an open file of an inode, which the plane takes over. backing_id: as ``join`` or ``open_backing`` said.

        Returns its handle number, > 0, never used twice.
        """
        fh = ffi.new("uint64_t *")
        check(lib.vs_plane_add_file(self._c, file.take(), ino, backing_id, fh), "register an open file")
        return int(fh[0])

    def join(self, ino: int) -> int | None:
        """One more open of an inode that is open: the number of the file that the kernel reads, 0: none, bytes go through
        the plane. None: it is not open, so ``open_backing`` it."""
        out = ffi.new("int32_t *")
        return int(out[0]) if lib.vs_plane_backing_join(self._c, ino, out) else None

    def open_backing(self, ino: int, fd: int | None) -> int:
        """The first open of an inode. fd: the file that the kernel shall read, which stays the caller's; None: none.

        Returns: as ``join``. Raises: NameTakenError: it is open. PermissionDeniedError, StoreError: the kernel cannot.
        """
        out = ffi.new("int32_t *")
        check(lib.vs_plane_backing_open(self._c, ino, -1 if fd is None else fd, out), "let the kernel read a file")
        return int(out[0])

    def leave(self, ino: int) -> None:
        """Take back a ``join`` or ``open_backing`` for which no file was added; ``remove_file`` does it for the others."""
        lib.vs_plane_backing_leave(self._c, ino)

    def open_counts(self) -> tuple[int, int]:
        """How many opens of joined inodes are read through the plane, and how many by the kernel."""
        through_plane, in_kernel = ffi.new("uint64_t *"), ffi.new("uint64_t *")
        lib.vs_plane_backing_counts(self._c, through_plane, in_kernel)
        return int(through_plane[0]), int(in_kernel[0])

    def remove_file(self, fh: int) -> None:
        """Forget a handle, and leave its inode; its file is released after its last request."""
        check(lib.vs_plane_remove_file(self._c, fh), "release an open file")

    def counts(self) -> dict[int, PlaneCount]:
        """Counts by FUSE opcode, of those that were seen."""
        out = ffi.new("vs_plane_count[64]")
        lib.vs_plane_counts(self._c, out)
        return {i: PlaneCount(c.requests, c.errors, c.bytes, c.nanoseconds) for i, c in enumerate(out) if c.requests}

    @property
    def faults_fd(self) -> int:
        """Readable while ``next_fault`` has something; stays the plane's."""
        return int(lib.vs_plane_faults_fd(self._c))

    def next_fault(self) -> Fault | None:
        """Why a request failed, the oldest that nobody has taken; None: there is none."""
        out = ffi.new("vs_fault *")
        return fault_from(out) if lib.vs_plane_next_fault(self._c, out) else None

    def unmount(self, lazy: bool = False) -> None:
        """End the mount. Raises: BusyError: somebody uses it, and not lazy; nothing changed."""
        check(lib.vs_plane_unmount(self._c, lazy), "unmount")

    def stop(self) -> None:
        """End the threads and free everything. The object is of no use afterwards. Twice is allowed."""
        if self._c is not None:
            c, self._c = self._c, None
            check(lib.vs_plane_stop(c), "stop the data plane")
            lib.vs_plane_free(c)

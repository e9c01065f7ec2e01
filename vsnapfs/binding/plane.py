"""The data plane: /dev/fuse in C, names to pyfuse3.

Source: native/include/plane.h.
"""

from __future__ import annotations

import os
from typing import Any, Literal, NamedTuple

from vsnapfs.binding._native import ffi, lib
from vsnapfs.binding.faults import Fault, check, fault_from
from vsnapfs.binding.keep import Keep
from vsnapfs.binding.view import VolumeFile

Transport = Literal["device", "io_uring"]
"""How requests come from the kernel."""

_TRANSPORTS = {"auto": lib.VS_PLANE_AUTO, "device": lib.VS_PLANE_DEVICE, "io_uring": lib.VS_PLANE_IO_URING}


class PlaneCount(NamedTuple):
    """Requests of one FUSE opcode in this plane's life, or of one open file in its own. bytes: of file content moved."""

    requests: int
    errors: int
    bytes: int
    nanoseconds: int
    latency: tuple[int, ...]
    """[i]: answers that took at least 2**i and less than 2**(i+1) nanoseconds; [0] also those of none, the last all
    that took longer."""


class CountedFile(NamedTuple):
    """An open file, and what was asked of it."""

    fh: int
    ino: int
    counts: PlaneCount


def _count_from(c: Any) -> PlaneCount:
    return PlaneCount(c.requests, c.errors, c.bytes, c.nanoseconds, tuple(c.latency))


class KeptFile(NamedTuple):
    """A file that was open when the worker before died. backing_id: of the file that the kernel reads it from; 0: none."""

    fh: int
    ino: int
    backing_id: int


def mount(
    mountpoint: str,
    source: str,
    keep: Keep,
    *,
    allow_other: bool,
    read_only: bool,
    transport: Transport | Literal["auto"],
) -> int:
    """Mount, and agree with the kernel; ``keep`` keeps what was agreed. Returns the device's descriptor, the caller's.

    Raises: PermissionDeniedError: not root. StoreError: io_uring, and the kernel does not offer it. What the kernel refuses.
    """
    options = ffi.new("vs_plane_options *")
    point, name = ffi.new("char[]", os.fsencode(mountpoint)), ffi.new("char[]", os.fsencode(source))
    options.mountpoint, options.source = point, name
    options.allow_other, options.read_only, options.transport = allow_other, read_only, _TRANSPORTS[transport]
    return check(lib.vs_plane_mount(options, keep.c), f"mount {mountpoint}")


def resumable(keep: Keep) -> bool:
    """Whether a worker's death goes unnoticed on the mount of ``keep``: Linux 6.9 sends requests again."""
    return bool(check(lib.vs_plane_resumable(keep.c), "look at the mount"))


def mounted_at(keep: Keep) -> str:
    """Where the mount of ``keep`` is, absolute."""
    path = ffi.new("char[]", lib.VS_PLANE_PATH_MAX)
    check(lib.vs_plane_mounted_at(keep.c, path), "look at the mount")
    return os.fsdecode(ffi.string(path))


def detach(keep: Keep, *, lazy: bool) -> None:
    """Take the mount of ``keep`` away. Raises: BusyError: somebody uses it, and not lazy."""
    check(lib.vs_plane_detach(keep.c, lazy), "unmount")


class Plane:
    """What serves a mounted device. Order of life: construct, ``kept_files`` and ``restore_file``, ``run``, pyfuse3 on
    ``socket_fd``, ``unmount``, ``stop``. ``device_fd`` is borrowed for the call, ``keep`` until ``stop`` or ``free``.
    """

    def __init__(self, device_fd: int, keep: Keep, *, threads: int = 0) -> None:
        out = ffi.new("vs_plane **")
        check(lib.vs_plane_open(device_fd, keep.c, threads, out), "serve the mount")
        self._c: Any = out[0]

    def kept_files(self) -> list[KeptFile]:
        """What the worker before has left open and was not restored."""
        cursor, fh, ino, backing_id = (
            ffi.new("uint32_t *"),
            ffi.new("uint64_t *"),
            ffi.new("uint64_t *"),
            ffi.new("int32_t *"),
        )
        kept = []
        while lib.vs_plane_kept_file(self._c, cursor, fh, ino, backing_id):
            kept.append(KeptFile(fh[0], ino[0], backing_id[0]))
        return kept

    def restore_file(self, fh: int, file: VolumeFile) -> None:
        """Open a kept file anew; the plane takes ``file`` over."""
        check(lib.vs_plane_restore_file(self._c, fh, file.take()), "open a file anew")

    def run(self) -> None:
        """Start to serve; once."""
        check(lib.vs_plane_run(self._c), "serve the mount")

    def free(self) -> None:
        """End one that was never run; its mount stays."""
        if self._c is not None:
            c, self._c = self._c, None
            lib.vs_plane_free(c)

    @property
    def socket_fd(self) -> int:
        """What pyfuse3 shall open as /dev/fd/N; it is pyfuse3's to close."""
        return int(lib.vs_plane_socket(self._c))

    @property
    def transport(self) -> Transport:
        """What is used; settled when the mount answers."""
        return "io_uring" if lib.vs_plane_transport(self._c) == lib.VS_PLANE_IO_URING else "device"

    @property
    def ended_fd(self) -> int:
        """Becomes readable when the kernel has ended the mount; stays the plane's."""
        return int(lib.vs_plane_ended_fd(self._c))

    def add_file(self, file: VolumeFile, ino: int, backing_id: int = 0) -> int:
        """Register an open file of an inode, which the plane takes over. backing_id: as ``join`` or ``open_backing`` said.

        Returns its handle number, never used twice, bit 63 clear.
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
        return {i: _count_from(c) for i, c in enumerate(out) if c.requests}

    def open_files(self) -> list[CountedFile]:
        """The files that are open now, and what was answered of each."""
        room = lib.vs_plane_open_files(self._c, ffi.NULL, 0)
        while True:
            out = ffi.new("vs_plane_open_file[]", room)
            found = lib.vs_plane_open_files(self._c, out, room)
            if found <= room:
                return [CountedFile(out[i].fh, out[i].ino, _count_from(out[i].count)) for i in range(found)]
            room = found

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

"""The data plane with real pyfuse3 handlers and a volume in memory; run as a program: LIBRARY MOUNTPOINT SIZE_BYTES
TRANSPORT.

The root shows

    vol       a volume, writable, opened as a C handle
    counts    served from Python: what the plane and the volume have counted, as JSON, at the time it is opened
    text      served from Python: TEXT
    born      there after SIGUSR1, which also invalidates the name

It ends when the mount is gone; SIGTERM takes the mount away (lazily if it is busy) and ends it. It is the shortest
example of what native/include/plane.h asks of its caller.
"""

from __future__ import annotations

import ctypes
import errno
import json
import signal
import stat
import sys
from typing import Any

import pyfuse3
import trio
from pyfuse3 import FUSEError

TEXT = b"served from Python\n" * 500
VOLUME, COUNTS, TEXT_FILE, BORN = 2, 3, 4, 5
NODES = {b"vol": VOLUME, b"counts": COUNTS, b"text": TEXT_FILE, b"born": BORN}
FILE_COUNTS = ("reads", "writes", "durable_writes", "zeros", "zeroed_bytes", "syncs", "releases")
OPCODES = {"READ": 15, "WRITE": 16, "FSYNC": 20, "FLUSH": 25, "LSEEK": 46, "FALLOCATE": 43}
TRANSPORTS = {"auto": 0, "device": 1, "io_uring": 2}
FOREVER_S = 300


class Options(ctypes.Structure):
    _fields_ = (
        ("mountpoint", ctypes.c_char_p),
        ("source", ctypes.c_char_p),
        ("allow_other", ctypes.c_int32),
        ("read_only", ctypes.c_int32),
        ("transport", ctypes.c_int32),
    )


class Count(ctypes.Structure):
    _fields_ = (
        ("requests", ctypes.c_uint64),
        ("errors", ctypes.c_uint64),
        ("bytes", ctypes.c_uint64),
        ("nanoseconds", ctypes.c_uint64),
        ("latency", ctypes.c_uint64 * 32),
    )


def load(path: str) -> ctypes.CDLL:
    """The shared object; every pointer is a plain int here."""
    lib = ctypes.CDLL(path)
    lib.test_file_new.restype = ctypes.c_void_p
    lib.test_file_count.restype = lib.test_file_data_blocks.restype = ctypes.c_uint64
    return lib


def start(lib: ctypes.CDLL, mountpoint: str, transport: str = "auto") -> ctypes.c_void_p:
    """A plane, mounted. The keep is never closed: the process ends with the mount. Raises: OSError."""
    keep, plane = ctypes.c_void_p(), ctypes.c_void_p()
    options = Options(mountpoint.encode(), b"plane test", 0, 0, TRANSPORTS[transport])
    checked(lib.vs_keep_open(checked(lib.vs_keep_make()), ctypes.byref(keep)))
    device = checked(lib.vs_plane_mount(ctypes.byref(options), keep))
    checked(lib.vs_plane_open(device, keep, 0, ctypes.byref(plane)))
    checked(lib.vs_plane_run(plane))
    return plane


def checked(code: int) -> int:
    if code < 0:
        raise OSError(-code, "the plane")
    return code


class Names(pyfuse3.Operations):
    def __init__(self, lib: ctypes.CDLL, plane: ctypes.c_void_p, size_bytes: int) -> None:
        super().__init__()
        self._lib = lib
        self._plane = plane
        self._size_bytes = size_bytes
        self._volume = ctypes.c_void_p(lib.test_file_new(ctypes.c_uint64(size_bytes), 0))
        self._contents = {COUNTS: b"", TEXT_FILE: TEXT, BORN: b""}
        self.names = set(NODES) - {b"born"}

    def _attributes(self, inode: int) -> pyfuse3.EntryAttributes:
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = pyfuse3.InodeT(inode)
        entry.st_mode = pyfuse3.ModeT(stat.S_IFDIR | 0o755 if inode == pyfuse3.ROOT_INODE else stat.S_IFREG | 0o600)
        entry.attr_timeout = entry.entry_timeout = FOREVER_S
        if inode == VOLUME:
            entry.st_size = self._size_bytes
            entry.st_blocks = self._lib.test_file_data_blocks(self._volume) * 8
        else:
            entry.st_size = len(self._contents.get(inode, b""))
            entry.st_blocks = (entry.st_size + 511) // 512
        return entry

    async def getattr(self, inode: int, ctx: Any = None) -> pyfuse3.EntryAttributes:
        return self._attributes(inode)

    async def lookup(self, parent_inode: int, name: bytes, ctx: Any = None) -> pyfuse3.EntryAttributes:
        if name in self.names:
            return self._attributes(NODES[name])
        return self._attributes(0)

    async def statfs(self, ctx: Any) -> pyfuse3.StatvfsData:
        """A loop device discards only if its file's filesystem answers this: f_bsize is its granularity."""
        data = pyfuse3.StatvfsData()
        data.f_bsize = data.f_frsize = 4096
        return data

    async def opendir(self, inode: int, ctx: Any) -> pyfuse3.FileHandleT:
        return pyfuse3.FileHandleT(inode)

    async def readdir(self, fh: int, start_id: int, token: Any) -> None:
        for name in sorted(self.names, key=lambda name: NODES[name]):
            node = NODES[name]
            if node > start_id and not pyfuse3.readdir_reply(token, name, self._attributes(node), node):
                return

    async def open(self, inode: int, flags: int, ctx: Any) -> pyfuse3.FileInfo:
        if inode == COUNTS:
            self._contents[COUNTS] = json.dumps(self._counted()).encode()
        if inode != VOLUME:
            return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(inode), direct_io=inode == COUNTS)
        fh = ctypes.c_uint64()
        code = self._lib.vs_plane_add_file(self._plane, self._volume, ctypes.c_uint64(inode), 0, ctypes.byref(fh))
        if code < 0:
            raise FUSEError(-code)
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(fh.value), keep_cache=True)

    async def release(self, fh: int) -> None:
        if fh not in self._contents:
            self._lib.vs_plane_remove_file(self._plane, ctypes.c_uint64(fh))

    async def read(self, fh: int, off: int, size: int) -> bytes:
        if fh not in self._contents:
            raise FUSEError(errno.EBADF)
        return self._contents[fh][off : off + size]

    def _counted(self) -> dict[str, int]:
        counts = (Count * 64)()
        self._lib.vs_plane_counts(self._plane, counts)
        plane = {name: counts[opcode].requests for name, opcode in OPCODES.items()}
        plane["transport"] = self._lib.vs_plane_transport(self._plane)
        return plane | {name: self._lib.test_file_count(self._volume, i) for i, name in enumerate(FILE_COUNTS)}


async def serve(lib: ctypes.CDLL, plane: ctypes.c_void_p, names: Names) -> None:
    """Serve names until the mount has ended."""
    async with trio.open_nursery() as nursery:
        await nursery.start(until_signal, lib, plane, names, nursery.cancel_scope)
        nursery.start_soon(pyfuse3.main)
        await trio.lowlevel.wait_readable(lib.vs_plane_ended_fd(plane))
        nursery.cancel_scope.cancel()


async def until_signal(
    lib: ctypes.CDLL,
    plane: ctypes.c_void_p,
    names: Names,
    scope: trio.CancelScope,
    *,
    task_status: trio.TaskStatus[None],
) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGUSR1) as signals:
        task_status.started()
        async for signum in signals:
            if signum == signal.SIGTERM:
                await trio.to_thread.run_sync(lib.vs_plane_unmount, plane, 1)
                scope.cancel()
            else:
                names.names.add(b"born")
                pyfuse3.invalidate_entry_async(pyfuse3.ROOT_INODE, b"born")


def main(library: str, mountpoint: str, size_bytes: str, transport: str) -> None:
    lib = load(library)
    plane = start(lib, mountpoint, transport)
    names = Names(lib, plane, int(size_bytes))
    pyfuse3.init(names, f"/dev/fd/{lib.vs_plane_socket(plane)}", set())
    try:
        trio.run(serve, lib, plane, names)
    finally:
        pyfuse3.close(unmount=False)
        lib.vs_plane_stop(plane)
        lib.vs_plane_free(plane)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""pyfuse3's requests, answered from a Tree.

The plane (native/include/plane.h) owns /dev/fuse and answers what carries bytes; here names, attributes and opens are
answered. An ``open`` makes a file of the C core and gives it to the plane, whose number for it is the handle. Handles
of files of text (manifests, diffs) and directories are made of their inode numbers.

Handlers run on the trio loop; what may block goes to a worker thread, so one slow lookup holds up nobody. What changes
snaps, at or diff is EROFS; what would change the name, size or mode of a live volume or of a branch's is EPERM and a line in the
log.
"""

from __future__ import annotations

import errno
import functools
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Concatenate, NoReturn, ParamSpec, TypeVar

import pyfuse3
import structlog
import trio
from pyfuse3 import FUSEError

from vsnapfs.binding import Plane
from vsnapfs.core.errors import VsnapfsError
from vsnapfs.tree import inodes
from vsnapfs.tree.data_mode import Reader
from vsnapfs.tree.handles import HANDLE_BIT, Texts, handle_of, inode_of
from vsnapfs.tree.kernel_data import KernelData
from vsnapfs.tree.nodes import (
    XATTR_PREFIX,
    Attributes,
    BranchDirectory,
    BranchFile,
    BranchManifest,
    DiffFile,
    Directory,
    Fixed,
    LiveFile,
    ManifestFile,
    Node,
    Text,
    ViewFile,
    Writable,
)
from vsnapfs.tree.registry import Registry
from vsnapfs.tree.tree import Tree

BLOCK_BYTES = 4096
ENTRIES_MAX = 256
"""At once."""
STATVFS_FIELDS = "f_bsize f_frsize f_blocks f_bfree f_bavail f_files f_ffree f_favail f_namemax"
USE_THE_COMMAND = {
    inodes.LIVE: "live volumes change by command alone: `vsnapfs volume resize`, `volume add`, `volume remove`",
    inodes.BRANCHES: "branches change by command alone: `vsnapfs branch add`, `branch remove`",
}
"""By the directory that they are in."""

P = ParamSpec("P")
T = TypeVar("T")
in_thread = trio.to_thread.run_sync
log = structlog.get_logger(__name__)


def _answers(
    handler: Callable[Concatenate[Operations, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Operations, P], Coroutine[Any, Any, T]]:
    """A handler whose errors become an errno: any other exception would end pyfuse3's loop, and with it the mount."""

    @functools.wraps(handler)
    async def guarded(self: Operations, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await handler(self, *args, **kwargs)
        except FUSEError:
            raise
        except VsnapfsError as error:
            if error.errno == errno.EIO:
                log.error("request failed", request=handler.__name__, error=str(error), **error.fields())
            raise FUSEError(error.errno) from error
        except Exception as error:
            log.exception("request failed", request=handler.__name__)
            raise FUSEError(getattr(error, "errno", None) or errno.EIO) from error

    return guarded


class Operations(pyfuse3.Operations):
    """One for each mount. Runs on the trio loop only. owner: uid and gid of all that is shown. shut: inodes that are not to be opened
    for writing now, where the count is not 0."""

    supports_dot_lookup = False
    enable_writeback_cache = False

    def __init__(
        self,
        tree: Tree,
        plane: Plane,
        data: KernelData,
        repository: Path,
        owner: tuple[int, int],
        shut: Counter[int],
    ) -> None:
        super().__init__()
        self._tree = tree
        self._plane = plane
        self._data = data
        self.probed = trio.Event()
        """Set when it is known what the kernel can do; until then opens of volumes at points wait."""
        self._opening: dict[int, trio.Lock] = {}
        self._repository = repository
        self._uid, self._gid = owner
        self._shut = shut
        self._registry = Registry()
        self._registry.remember(Fixed(inodes.ROOT))
        self._texts = Texts()

    # Names and attributes

    async def node(self, ino: int) -> Node:
        node = self._registry.get(ino)
        return node if node is not None else await in_thread(self._tree.node, ino)

    def _entry(self, attributes: Attributes) -> pyfuse3.EntryAttributes:
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = pyfuse3.InodeT(attributes.ino)
        entry.st_mode = pyfuse3.ModeT(attributes.mode)
        entry.st_nlink = attributes.nlink
        entry.st_uid = self._uid
        entry.st_gid = self._gid
        entry.st_size = attributes.size_bytes
        entry.st_blocks = attributes.blocks
        entry.st_blksize = BLOCK_BYTES
        entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = attributes.mtime_ns
        entry.entry_timeout = attributes.entry_timeout_s
        entry.attr_timeout = attributes.attr_timeout_s
        return entry

    def _find(self, parent: Node, name: str) -> tuple[Node, Attributes]:
        node = self._tree.lookup(parent, name)
        return node, self._tree.attributes(node)

    @_answers
    async def lookup(self, parent_inode: int, name: bytes, ctx: Any) -> pyfuse3.EntryAttributes:
        parent, text = await self.node(parent_inode), os.fsdecode(name)
        known = self._tree.lookup_nowait(parent, text)
        node, attributes = (known, known.attributes()) if known else await in_thread(self._find, parent, text)
        self._registry.remember(node)
        return self._entry(attributes)

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        self._registry.forget(inode_list)

    @_answers
    async def getattr(self, inode: int, ctx: Any) -> pyfuse3.EntryAttributes:
        node = await self.node(inode)
        return self._entry(await in_thread(self._tree.attributes, node))

    @_answers
    async def readlink(self, inode: int, ctx: Any) -> bytes:
        return os.fsencode(await in_thread(self._tree.latest))

    @_answers
    async def statfs(self, ctx: Any) -> pyfuse3.StatvfsData:
        below = await in_thread(os.statvfs, self._repository)
        shown = pyfuse3.StatvfsData()
        for field in STATVFS_FIELDS.split():
            setattr(shown, field, getattr(below, field))
        return shown

    async def access(self, inode: int, mode: int, ctx: Any) -> bool:
        """The kernel checks modes itself (default_permissions)."""
        return True

    # Directories

    @_answers
    async def opendir(self, inode: int, ctx: Any) -> int:
        self._directory(await self.node(inode))
        return handle_of(inode)

    def _directory(self, node: Node) -> Directory:
        if not isinstance(node, Directory):
            raise FUSEError(errno.ENOTDIR)
        return node

    @_answers
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        node = self._directory(await self.node(inode_of(fh)))
        for entry in await in_thread(self._tree.entries, node, start_id, ENTRIES_MAX):
            encoded = pyfuse3.FileNameT(os.fsencode(entry.name))
            if not pyfuse3.readdir_reply(token, encoded, self._entry(entry.attributes), entry.cookie):
                return
            self._registry.remember(entry.node)

    async def releasedir(self, fh: int) -> None:
        """An open directory is nothing but its number."""

    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        """Nothing to sync; ENOSYS would make the kernel stop asking."""

    # Files

    @_answers
    async def open(self, inode: int, flags: int, ctx: Any) -> pyfuse3.FileInfo:
        node = await self.node(inode)
        match node:
            case LiveFile() | BranchFile():
                if flags & os.O_TRUNC:
                    self._refuse_change("truncate", node)
                fh = await in_thread(self._open_writable, node)
                if self._shut[node.ino] > 0 and flags & os.O_ACCMODE != os.O_RDONLY:
                    await in_thread(self._plane.remove_file, fh)
                    raise FUSEError(errno.EBUSY)
                return _volume(fh, past_cache=bool(flags & os.O_DIRECT))
            case ViewFile() | ManifestFile() | DiffFile() | BranchManifest() if (
                flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC
            ):
                raise FUSEError(errno.EROFS)
            case ViewFile():
                await self.probed.wait()
                async with self._alone(node.ino):
                    return _volume(await in_thread(self._open_view, node, bool(flags & os.O_DIRECT)))
            case ManifestFile() | DiffFile() | BranchManifest():
                return await self._open_text(node)
        raise FUSEError(errno.EISDIR)

    def _open_view(self, node: ViewFile, direct: bool) -> int:
        return self._data.open(node.ino, node.point.bookmark, self._tree.view(node), direct=direct)

    def _open_writable(self, node: Writable) -> int:
        return self._plane.add_file(self._tree.writable_file(node), node.ino)

    @asynccontextmanager
    async def _alone(self, ino: int) -> AsyncIterator[None]:
        """One open of an inode at a time: the first decides for the others who wait."""
        lock = self._opening.setdefault(ino, trio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.locked():
                self._opening.pop(ino, None)

    async def _open_text(self, node: Text) -> pyfuse3.FileInfo:
        content = await in_thread(self._tree.content, node)
        self._texts.open(node.ino, content)
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(handle_of(node.ino)), keep_cache=False)

    @_answers
    async def read(self, fh: int, off: int, size: int) -> bytes:
        content = self._texts.get(inode_of(fh))
        if content is None:
            node = await self.node(inode_of(fh))
            if not isinstance(node, Text):
                raise FUSEError(errno.EBADF)
            content = await in_thread(self._tree.content, node)
        return content[off : off + size]

    async def flush(self, fh: int) -> None:
        """Nothing to do for files of text; the plane answers for volumes."""

    async def fsync(self, fh: int, datasync: bool) -> None:
        """As ``flush``."""

    @_answers
    async def release(self, fh: int) -> None:
        if fh & HANDLE_BIT:
            self._texts.close(inode_of(fh))
        else:
            await in_thread(self._plane.remove_file, fh)

    # Extended attributes

    @_answers
    async def listxattr(self, inode: int, ctx: Any) -> Sequence[bytes]:
        shown = await self._xattrs(await self.node(inode))
        return [(XATTR_PREFIX + name).encode() for name in shown]

    async def _xattrs(self, node: Node) -> dict[str, str]:
        shown = await in_thread(self._tree.xattrs, node)
        if isinstance(node, ViewFile):
            await self.probed.wait()
            reader = await in_thread(self._reader, node)
            shown |= {"data": reader, "verified": self._data.rules.verified(reader)}
        return shown

    def _reader(self, node: ViewFile) -> Reader:
        with self._tree.view(node) as view:
            return self._data.reader(node.ino, node.point.bookmark, view)

    @_answers
    async def getxattr(self, inode: int, name: bytes, ctx: Any) -> bytes:
        """EOPNOTSUPP outside of ``user.``: ``ls -l`` then asks for ACLs and labels once and not for each file."""
        text = os.fsdecode(name)
        if not text.startswith("user."):
            raise FUSEError(errno.EOPNOTSUPP)
        shown = await self._xattrs(await self.node(inode))
        value = shown.get(text.removeprefix(XATTR_PREFIX))
        if value is None or not text.startswith(XATTR_PREFIX):
            raise FUSEError(errno.ENODATA)
        return value.encode()

    @_answers
    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: Any) -> None:
        raise FUSEError(errno.EOPNOTSUPP if isinstance(await self.node(inode), Writable) else errno.EROFS)

    @_answers
    async def removexattr(self, inode: int, name: bytes, ctx: Any) -> None:
        raise FUSEError(errno.EOPNOTSUPP if isinstance(await self.node(inode), Writable) else errno.EROFS)

    # Changes, all refused

    @_answers
    async def setattr(self, inode: int, attr: Any, fields: pyfuse3.SetattrFields, fh: int | None, ctx: Any) -> Any:
        """Times of what can be written to are taken without effect: ``touch`` and ``cp -p`` set them, nothing needs them."""
        node = await self.node(inode)
        if not isinstance(node, Writable):
            raise FUSEError(errno.EROFS)
        if fields.update_size:
            self._refuse_change("truncate", node)
        if fields.update_mode or fields.update_uid or fields.update_gid:
            self._refuse_change("chmod or chown", node)
        return self._entry(await in_thread(self._tree.attributes, node))

    def _refuse_change(self, doing: str, node: Writable) -> NoReturn:
        if isinstance(node, LiveFile):
            log.warning(USE_THE_COMMAND[inodes.LIVE], refused=doing, volume=node.volume_id)
        else:
            log.warning(
                USE_THE_COMMAND[inodes.BRANCHES], refused=doing, branch=node.place.name, volume=node.volume.name
            )
        raise FUSEError(errno.EPERM)

    async def _refuse(self, doing: str, name: bytes, *parents: int) -> NoReturn:
        for parent in parents:
            top = inodes.BRANCHES if isinstance(await self.node(parent), BranchDirectory) else parent
            if top in USE_THE_COMMAND:
                log.warning(USE_THE_COMMAND[top], refused=doing, name=os.fsdecode(name))
                raise FUSEError(errno.EPERM)
        raise FUSEError(errno.EROFS)

    @_answers
    async def _refuse_new(self, parent_inode: int, name: bytes, *how: Any, **named: Any) -> Any:
        await self._refuse("create", name, parent_inode)

    @_answers
    async def _refuse_removal(self, parent_inode: int, name: bytes, ctx: Any) -> None:
        await self._refuse("remove", name, parent_inode)

    create = mknod = mkdir = symlink = _refuse_new
    unlink = rmdir = _refuse_removal

    @_answers
    async def link(self, inode: int, new_parent_inode: int, new_name: bytes, ctx: Any) -> Any:
        await self._refuse("link", new_name, new_parent_inode)

    @_answers
    async def rename(self, old: int, name_old: bytes, new: int, name_new: bytes, flags: int, ctx: Any) -> None:
        await self._refuse("rename", name_old, old, new)


def _volume(handle: int, *, past_cache: bool = False) -> pyfuse3.FileInfo:
    """What the kernel has cached stays good for the next one who opens it: a view never changes, a branch's volume only through the
    kernel, a live one also by ``Mount.changed``.

    It must stay: the kernel unlocks a written page before its WRITE is answered. If an open dropped the page then, a
    read ahead by somebody else could bring the old bytes back, for good.

    past_cache: opened with O_DIRECT; the plane then tells the kernel that writes need not wait for each other.
    """
    return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(handle), direct_io=past_cache, keep_cache=True)

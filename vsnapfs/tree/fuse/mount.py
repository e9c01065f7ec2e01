"""The life of a mount: the plane, a pyfuse3 session behind it, and the end of both."""

from __future__ import annotations

import contextlib
import os
import select
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from subprocess import DEVNULL
from typing import TYPE_CHECKING, ClassVar, Literal

import pyfuse3
import structlog
import trio

from vsnapfs.binding import KeptFile, Plane, PlaneCount, Transport
from vsnapfs.core.errors import BusyError, StoreError, UsageError, VsnapfsError
from vsnapfs.core.state import MountData
from vsnapfs.mounts.holders import holders
from vsnapfs.tree.data_mode import DataRules
from vsnapfs.tree.fuse.connection import Connection, Device, Wanted
from vsnapfs.tree.fuse.operations import Operations
from vsnapfs.tree.kernel_data import KernelData
from vsnapfs.tree.nodes import VolumeNode
from vsnapfs.tree.tree import Tree

if TYPE_CHECKING:
    from vsnapfs.repository.repository import Repository

BUSY_GRACE_S = 5.0
"""How long a mount that was taken away lazily is still served to those who use it."""

END_GRACE_S = 2.0
"""How long a mount that does not answer is given to turn out to be gone: both come from one umount, in any order."""

DATA_DEFAULT = DataRules()
SCRATCH_DEFAULT = Path("/var/tmp")

in_thread = trio.to_thread.run_sync
log = structlog.get_logger(__name__)


@contextlib.contextmanager
def _session(plane: Plane, operations: Operations) -> Iterator[None]:
    """A pyfuse3 session on the plane's end of the pair, which libfuse closes with the session."""
    try:
        pyfuse3.init(operations, f"/dev/fd/{plane.socket_fd}", set())
    except BaseException:
        os.close(plane.socket_fd)
        raise
    try:
        yield
    finally:
        pyfuse3.close(unmount=False)


async def _log_faults(plane: Plane) -> None:
    """A line for each damaged place that a read met: the reader got EIO, the administrator learns where."""
    while True:
        await trio.lowlevel.wait_readable(plane.faults_fd)
        while fault := plane.next_fault():
            log.error(
                fault.text,
                volume=fault.volume,
                seqno=fault.seqno,
                segment=fault.segment,
                offset_bytes=fault.offset_bytes,
            )


def _is_gone(device: Device) -> bool:
    """Whether the mount ended while nobody served it."""
    poll = select.poll()
    poll.register(device.fd, select.POLLIN)
    return any(state & select.POLLERR for _, state in poll.poll(0))


class Mount:
    """A repository, mounted. pyfuse3 keeps one session per process, so a process has one Mount at a time.

    ``run`` mounts and serves until the kernel ends the mount (umount by anybody) or it is cancelled; ``stop``
    unmounts. live: show live/ and branches/, for the owner of the repository. uid, gid: who owns what is shown. connection: who
    mounts, and holds what outlives this process; borrowed. data: who reads the volumes at points. scratch: a directory
    on a disk for temporary files, where the repository's own must not be used.
    """

    _running: ClassVar[bool] = False

    def __init__(
        self,
        repository: Repository,
        mountpoint: Path,
        connection: Connection,
        *,
        live: bool,
        allow_other: bool,
        uid: int,
        gid: int,
        transport: Transport | Literal["auto"] = "auto",
        data: DataRules = DATA_DEFAULT,
        scratch: Path = SCRATCH_DEFAULT,
    ) -> None:
        self._connection = connection
        self._repository = repository
        self.mountpoint = mountpoint
        self._live = live
        self._allow_other = allow_other
        self._transport = transport
        self._owner = (uid, gid)
        self._rules = data
        self._scratch = [repository.path, scratch] if live else [scratch]
        self._data: KernelData | None = None
        self._plane: Plane | None = None
        self._tree: Tree | None = None
        self._operations: Operations | None = None
        self._shut: Counter[int] = Counter()
        self._control = trio.Lock()
        """Held while a thread unmounts or ends the plane, so that neither finds it freed by the other."""
        self._scope = trio.CancelScope()
        self._ended = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Mount and serve; ``task_status`` is told when the mount answers, or is gone already. Returns when it is gone.

        Raises: what ``mountpoint.prepare`` raises; BusyError: this process has a Mount; StoreError: the kernel refused.
        Cancellation: unmounts, lazily if it is busy.
        """
        if Mount._running:
            raise BusyError("this process has a mount already", hint="start another process for another mount")
        Mount._running = True
        try:
            with self._scope:
                memory = self._connection.keep.nodes()
                self._tree = await in_thread(partial(Tree, self._repository, live=self._live, memory=memory))
                device = self._connection.resumed
                if device is None:
                    device = await in_thread(self._mount)
                elif _is_gone(device):
                    task_status.started()
                    return
                self.mountpoint = Path(device.mountpoint)
                self._plane = plane = await in_thread(self._start_plane, device, self._tree)
                await self._serve(plane, self._tree, task_status)
        finally:
            Mount._running = False
            self._ended.set()

    def _mount(self) -> Device:
        return self._connection.device(
            Wanted(
                mountpoint=str(self.mountpoint),
                source=str(self._repository.path),
                allow_other=self._allow_other,
                read_only=not self._live,
                transport=self._connection.transport(self._transport, live=self._live),
            )
        )

    def _start_plane(self, device: Device, tree: Tree) -> Plane:
        """A plane that runs, with the files open that the kernel has open."""
        plane = Plane(device.fd, self._connection.keep)
        try:
            for kept in plane.kept_files():
                self._restore(plane, tree, kept)
            plane.run()
        except BaseException:
            os.close(plane.socket_fd)
            plane.free()
            raise
        return plane

    def _restore(self, plane: Plane, tree: Tree, kept: KeptFile) -> None:
        """What cannot be opened any more gives its users EIO; all else goes on."""
        try:
            plane.restore_file(kept.fh, tree.open_again(kept.ino))
        except VsnapfsError as error:
            log.error("a file that was open cannot be opened again", inode=kept.ino, error=str(error))

    async def _serve(self, plane: Plane, tree: Tree, task_status: trio.TaskStatus[None]) -> None:
        self._data = KernelData(self._repository.journal, plane, self._rules, self._scratch)
        operations = self._operations = Operations(
            tree, plane, self._data, self._repository.path, self._owner, self._shut
        )
        told = False
        try:
            with _session(plane, operations):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._until_ended, plane, nursery.cancel_scope)
                    nursery.start_soon(_log_faults, plane)
                    nursery.start_soon(pyfuse3.main)
                    if self._connection.resumed is None:
                        await self._answered()
                    await in_thread(self._data.probe)
                    operations.probed.set()
                    task_status.started()
                    told = True
            if not told:  # somebody unmounted it before it had answered us
                task_status.started()
        except Exception:
            log.exception("serving broke")
            self._connection.broke()
            raise
        finally:
            with trio.CancelScope(shield=True):
                async with self._control:
                    self._plane = None
                    await in_thread(self._take_down, plane)
                    self._data.close()

    async def _answered(self) -> None:
        """Another process looks at the mount. A thread of ours, killed while it waits for our own answer, would keep
        /dev/fuse open and wait for ever: the process could not even die, nor another take its place."""
        looked = await trio.run_process(["stat", "--", self.mountpoint], stdout=DEVNULL, stderr=DEVNULL, check=False)
        if looked.returncode != 0:
            await trio.sleep(END_GRACE_S)
            raise StoreError(f"the mount at {self.mountpoint} does not answer")

    async def _until_ended(self, plane: Plane, scope: trio.CancelScope) -> None:
        await trio.lowlevel.wait_readable(plane.ended_fd)
        scope.cancel()

    def _take_down(self, plane: Plane) -> None:
        self._detach(plane, lazy=True)
        plane.stop()

    def _detach(self, plane: Plane, *, lazy: bool) -> None:
        """Raises: BusyError: somebody uses it, and not lazy. Whatever else fails, ``plane.stop`` ends the mount."""
        try:
            plane.unmount(lazy)
        except BusyError:
            raise
        except UsageError:
            """Somebody has taken its name away already."""
        except VsnapfsError as error:
            log.warning("the mount could not be taken away", path=str(self.mountpoint), error=str(error))

    async def stop(self) -> None:
        """Unmount and wait until ``run``, which was started before, has returned. A busy mount is taken away lazily,
        the log says who keeps it, and after BUSY_GRACE_S its users get ENOTCONN."""
        if self._plane is not None:
            await self._unmount()
            with trio.move_on_after(BUSY_GRACE_S):
                await self._ended.wait()
        self._scope.cancel()
        await self._ended.wait()

    async def _unmount(self) -> None:
        async with self._control:
            plane = self._plane
            if plane is None:
                return
            try:
                await in_thread(partial(self._detach, plane, lazy=False))
            except BusyError:
                kept_by = await in_thread(holders, self.mountpoint)
                log.warning("the mount is busy; its name is taken away", path=str(self.mountpoint), kept_by=kept_by)
                await in_thread(partial(self._detach, plane, lazy=True))

    def shut(self, inos: Iterable[int]) -> None:
        """Refuse to open files for writing until ``unshut``; who has them open keeps them. On the trio loop only."""
        self._shut.update(inos)

    def unshut(self, inos: Iterable[int]) -> None:
        self._shut.subtract(inos)

    def counts(self) -> dict[int, PlaneCount]:
        """Requests by FUSE opcode since the mount began. On the trio loop only."""
        return {} if self._plane is None else self._plane.counts()

    async def open_volumes(self) -> list[tuple[int, VolumeNode, PlaneCount]]:
        """Of each volume that is open: its handle, what it is, what was asked of it. On the trio loop only."""
        if self._plane is None or self._operations is None:
            return []
        operations = self._operations
        found: list[tuple[int, VolumeNode, PlaneCount]] = []
        for file in self._plane.open_files():
            with contextlib.suppress(VsnapfsError):  # it can be read on, but nobody knows any more what it is
                node = await operations.node(file.ino)
                if isinstance(node, VolumeNode):
                    found.append((file.fh, node, file.counts))
        return found

    def data(self) -> MountData | None:
        """Who reads volumes. On the trio loop only."""
        return None if self._plane is None or self._data is None else self._data.counts()

    def transport(self) -> Transport | None:
        """How requests come from the kernel; None: nothing is mounted. On the trio loop only."""
        return None if self._plane is None else self._plane.transport

    async def changed(self, *, content: bool) -> None:
        """Volumes were changed past the mount: the kernel drops what it remembers of live ones, attributes and (after
        an import or a resync, while nobody writes) content. It hears of it in its own time, some microseconds after
        this returns."""
        if self._tree is not None and self._plane is not None:
            for node in await in_thread(self._tree.live_nodes):
                await in_thread(pyfuse3.invalidate_inode, pyfuse3.InodeT(node.ino), not content)

"""A mounted repository for tests: served in this process, where a test holds both ends, or by the real program.

Whatever happens, the mount is taken away lazily and the process or thread ends.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Self

import pytest
import trio

from tests.support.processes import child, environment, is_mounted, program, unmount
from tests.support.waiting import eventually
from vsnapfs.core.state import MountData
from vsnapfs.repository.repository import Repository
from vsnapfs.tree.data_mode import DataRules
from vsnapfs.tree.fuse import Connection, Mount
from vsnapfs.tree.fuse.mount import DATA_DEFAULT, SCRATCH_DEFAULT

END_S = 30.0
MIB = 1 << 20


class Shown:
    """A repository that this process has open and shows. ``path``: the mount point; ``repository``: as in a server.

    A child process must not touch the mount before its exec (no ``cwd=`` into it): the parent waits for the exec with
    the interpreter's lock, which the answer to the child needs, so both would wait for ever.
    """

    def __init__(
        self,
        repository: Repository,
        mountpoint: Path,
        *,
        live: bool,
        allow_other: bool = False,
        gid: int | None = None,
        data: DataRules = DATA_DEFAULT,
        scratch: Path = SCRATCH_DEFAULT,
    ) -> None:
        self.repository = repository
        self.path = mountpoint
        self._connection = Connection()
        self.mount = Mount(
            repository,
            mountpoint,
            self._connection,
            live=live,
            allow_other=allow_other,
            uid=os.geteuid(),
            gid=os.getegid() if gid is None else gid,
            data=data,
            scratch=scratch,
        )
        self.failure: BaseException | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._ready = threading.Event()
        self._stopping = trio.Event()
        self._thread = threading.Thread(target=self._live, name="shown")

    def __truediv__(self, path: str) -> Path:
        return self.path / path

    def _live(self) -> None:
        try:
            trio.run(self._run)
        except BaseException as failure:  # noqa: BLE001  the test's thread raises it
            self.failure = failure
        finally:
            self._ready.set()

    async def _run(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            await nursery.start(self._serve, nursery.cancel_scope)
            self._ready.set()
            await self._stopping.wait()
            await self.mount.stop()

    async def _serve(self, scope: trio.CancelScope, *, task_status: trio.TaskStatus[None]) -> None:
        await self.mount.run(task_status=task_status)
        scope.cancel()

    def data(self) -> MountData:
        """As the server asks for ``status``."""
        found = trio.from_thread.run_sync(self.mount.data, trio_token=self._token)
        assert found is not None
        return found

    def changed(self, *, content: bool) -> None:
        """As the server after a change of volumes."""
        trio.from_thread.run(partial(self.mount.changed, content=content), trio_token=self._token)

    def stop(self) -> None:
        """Unmount as the server does at its end."""
        trio.from_thread.run_sync(self._stopping.set, trio_token=self._token)
        self.join()

    def join(self) -> None:
        """Wait until nothing serves any more; raise what ended it."""
        self._thread.join(END_S)
        assert not self._thread.is_alive(), "the mount does not end"
        if self.failure is not None:
            raise self.failure

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(END_S), "the mount does not answer"
        if self.failure is not None:
            raise self.failure
        return self

    def __exit__(self, *_: object) -> None:
        unmount(self.path)
        self._thread.join(END_S)
        assert not self._thread.is_alive(), "the mount does not end"
        self._connection.close()
        assert not is_mounted(self.path)


@pytest.fixture
def mountpoint(tmp_path: Path) -> Iterator[Path]:
    """An empty directory; what is left mounted on it is taken away."""
    path = tmp_path / "mnt"
    path.mkdir()
    yield path
    unmount(path)


@pytest.fixture
def repository(memory_path: Path) -> Iterator[Repository]:
    """The owner's end of a new repository with thin volumes ``db`` (4 MiB) and ``logs`` (1 MiB)."""
    path = memory_path / "repository"
    Repository.create(path)
    with Repository.open(path, owner=True) as repository:
        repository.volume_add("db", size_bytes=4 * MIB)
        repository.volume_add("logs", size_bytes=MIB)
        yield repository


@pytest.fixture
def served(repository: Repository, mountpoint: Path) -> Iterator[Shown]:
    """It, served with live/."""
    with Shown(repository, mountpoint, live=True) as shown:
        yield shown


Showing = Callable[[Path, str], subprocess.Popen[bytes]]

VERBS = {"serve": ["serve", "--keeper", "none"], "mount": ["mount", "--foreground", "--keeper", "none"]}


@pytest.fixture
def start(mountpoint: Path, tmp_path: Path) -> Iterator[Showing]:
    """Starts the real program on ``mountpoint``: start(repository path, "serve" or "mount"). Returns when it shows the
    tree, also over a dead mount. It is killed with the test."""
    with ExitStack() as stack, (tmp_path / "log").open("a+") as log:

        def begin(repository: Path, verb: str) -> subprocess.Popen[bytes]:
            command = [*program(), *VERBS[verb], str(mountpoint)]
            process = stack.enter_context(child(command, env=environment(repository), stdout=log, stderr=log))

            def is_shown() -> bool:
                assert process.poll() is None, (tmp_path / "log").read_text()
                return os.path.isdir(mountpoint / "snaps")

            eventually(is_shown, f"{verb} shows the tree")
            return process

        yield begin

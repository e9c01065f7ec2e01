"""``serve``: the one owner of a repository: captures through live/, shows the tree, answers the verbs, keeps house.

Order of the start: lock and recovery, control socket, mount, readiness: who sees the mount can ask the server. The end
goes the other way: the mount is taken away, calls get a short grace, everything is committed and applied, the lock is
released last.

Concurrency: trio runs names, calls and signals; whatever touches storage runs in threads.
"""

from __future__ import annotations

import os
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import structlog
import trio

import vsnapfs
from vsnapfs.binding import protect_memory
from vsnapfs.core.errors import NoSpaceError, VsnapfsError
from vsnapfs.core.model import Memory, Status
from vsnapfs.core.times import iso
from vsnapfs.daemon.api import Report, Verb
from vsnapfs.daemon.client import open_repository
from vsnapfs.daemon.control import control_sockets
from vsnapfs.daemon.counts import open_files, requests_by_name
from vsnapfs.daemon.holding import Holding
from vsnapfs.daemon.http import make_app
from vsnapfs.daemon.requests import Request
from vsnapfs.daemon.rights import Rights
from vsnapfs.daemon.scrub import scrubbing
from vsnapfs.daemon.serving import (
    Announce,
    MountOptions,
    allow_many_files,
    announced,
    errors_unwrapped,
    mount_of,
    mounted,
)
from vsnapfs.daemon.settling import settling

if TYPE_CHECKING:
    from vsnapfs.binding import JournalFacts
    from vsnapfs.repository.repository import Repository
    from vsnapfs.tree.fuse import Mount

TOUCHES_VOLUMES = {
    "volume_add": False,
    "volume_remove": False,
    "volume_resize": False,
    "volume_resync": True,
    "import": True,
}
"""Verbs that change live volumes past the mount; True: their content too."""

TEND_EVERY_S = 1.0
"""How long a write without fsync may stay uncommitted."""
TRY_S_MAX = 60.0
"""Between two tries to use a journal that fails."""

in_thread = trio.to_thread.run_sync
log = structlog.get_logger()


def serve(path: Path, mountpoint: Path, options: MountOptions, announce: Announce, holding: Holding) -> None:
    """Serve until a signal or ``umount``. ``holding`` is closed at the end.

    Raises: LockedError: another server, with its pid. What Repository.open and Mount.run raise.
    """
    allow_many_files()
    with closing(holding), errors_unwrapped():
        trio.run(_serve, path, mountpoint, options, announce, holding, Memory(**protect_memory()._asdict()))
        holding.ended()


async def _serve(
    path: Path, mountpoint: Path, options: MountOptions, announce: Announce, holding: Holding, memory: Memory
) -> None:
    open_it = partial(open_repository, path, owner=True, keep=holding.keep, locked=holding.locked)
    repository = await in_thread(open_it)
    try:
        _tell_recovery(repository)
        mount = mount_of(repository, mountpoint, options, holding, live=True)
        await _answer_and_tend(repository, mount, announce, holding, memory)
    finally:
        with trio.CancelScope(shield=True):
            await in_thread(repository.close)
    log.info("ended")


async def _answer_and_tend(
    repository: Repository, mount: Mount, announce: Announce, holding: Holding, memory: Memory
) -> None:
    app = make_app(Answers(repository, mount, holding, memory), partial(_health, repository, mount))
    settings = repository.settings.control
    others = None if settings.socket is None else Path(settings.socket)
    rights = Rights(settings)
    directory_fd = os.open(repository.path, os.O_PATH | os.O_DIRECTORY)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_tend, repository)
            nursery.start_soon(_close_gaps, repository)
            nursery.start_soon(settling, repository)
            control = control_sockets(directory_fd, app, rights, others)
            async with control, mounted(mount, holding) as life, scrubbing(repository):
                where = {"repository": str(repository.path), "mountpoint": str(mount.mountpoint)}
                log.info("serving", **where, memory=msgspec.structs.asdict(memory))
                announced(holding, announce)
                await life.ending.wait()
                repository.federated.end_holds()
            nursery.cancel_scope.cancel()
    finally:
        os.close(directory_fd)


class Answers:
    """Carries verbs out in the serving process; adds what only it knows. Called in worker threads."""

    def __init__(self, repository: Repository, mount: Mount, holding: Holding, memory: Memory) -> None:
        self._repository = repository
        self._mount = mount
        self._holding = holding
        self._memory = memory

    def __call__(self, verb: Verb, request: Request[Any], report: Report) -> Any:
        result = verb.run(self._repository, request, report)
        if isinstance(result, Status):
            return self._served(result)
        if verb.name in TOUCHES_VOLUMES:
            trio.from_thread.run(partial(self._mount.changed, content=TOUCHES_VOLUMES[verb.name]))
        return result

    def _served(self, status: Status) -> Status:
        counts = trio.from_thread.run_sync(self._mount.counts)
        opened = trio.from_thread.run(self._mount.open_volumes)
        data = trio.from_thread.run_sync(self._mount.data)
        transport = trio.from_thread.run_sync(self._mount.transport)
        return msgspec.structs.replace(
            status,
            served=True,
            mountpoint=str(self._mount.mountpoint),
            pid=self._holding.pid,
            worker_pid=os.getpid(),
            keeper=self._holding.kind,
            transport=transport,
            memory=self._memory,
            requests=requests_by_name(counts),
            open_files=open_files(opened, status.volumes),
            data=data,
        )


def _health(repository: Repository, mount: Mount) -> dict[str, Any]:
    return {
        "version": vsnapfs.__version__,
        "pid": os.getpid(),
        "repository": str(repository.path),
        "uuid": repository.uuid,
        "mountpoint": str(mount.mountpoint),
    }


def _tell_recovery(repository: Repository) -> None:
    facts = repository.journal.facts()
    if facts.kept_records:
        log.warning("took over what the worker before had answered and not yet written", records=facts.kept_records)
    if facts.torn_bytes:
        log.warning("cut a torn tail, never acknowledged, kept as journal/*.torn", torn_bytes=facts.torn_bytes)


async def _tend(repository: Repository) -> None:
    """Housekeeping: commit what lies about, merge maps after a seal, and put in the log what became worse."""
    housekeeping = Housekeeping(repository)
    while True:
        await in_thread(housekeeping.once)
        await trio.sleep(TEND_EVERY_S)


async def _close_gaps(repository: Repository) -> None:
    """Take up again what failed, as soon as it works."""
    closer = GapCloser(repository)
    pause_s = 0.0
    while True:
        await trio.sleep(pause_s)
        pause_s = await in_thread(closer.once)


class GapCloser:
    """One try at a time; remembers how often it was in vain, and what it has told."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._tries = 0
        self._since = 0

    def once(self) -> float:
        """Returns when to look again, in seconds. A disk that is full is asked every time, since that costs nothing; one that
        fails is left in peace for longer and longer."""
        facts = self._repository.journal.facts()
        if not facts.gap:
            self._tries = 0
            return TEND_EVERY_S
        if self._since != facts.gap_since_ns:
            self._since = facts.gap_since_ns
            log.error(
                "a gap: writes are not journalled", since=iso(facts.gap_since_ns), reason=os.strerror(-facts.gap_reason)
            )
        try:
            changed_bytes = self._repository.gap_close()
        except VsnapfsError as error:
            self._tries += 1
            if self._tries == 1:
                log.warning("the gap cannot be closed yet", reason=str(error))
            return TEND_EVERY_S if isinstance(error, NoSpaceError) else min(TRY_S_MAX, 2.0**self._tries)
        log.warning("the gap is closed, writes are journalled again", changed_bytes=changed_bytes)
        return TEND_EVERY_S


class Housekeeping:
    """One round at a time; remembers what it has told."""

    def __init__(self, repository: Repository) -> None:
        self._journal = repository.journal
        self._segments = 0
        self._clock_jumps = 0
        self._failure = (0, 0)
        self._reason = ""

    def once(self) -> None:
        facts = self._journal.facts()
        self._tell(facts)
        try:
            if facts.pending and not facts.failed:
                self._journal.commit()
            if facts.segments != self._segments:
                self._merge()
                self._segments = facts.segments
        except VsnapfsError as error:
            self._tell(self._journal.facts())
            if str(error) != self._reason:
                self._reason = str(error)
                log.error("housekeeping failed", reason=self._reason, **error.fields())

    def _merge(self) -> None:
        while self._journal.merge_maps():
            pass

    def _tell(self, facts: JournalFacts) -> None:
        """Log what is worse than when it was told last."""
        if facts.clock_jumps > self._clock_jumps:
            self._clock_jumps = facts.clock_jumps
            log.warning("the clock stood or went back; order is kept", clock_jumps=facts.clock_jumps)
        failure = (facts.failed, facts.failed_volume)
        if failure != self._failure:
            self._failure = failure
            if failure == (0, 0):
                return
            reason = os.strerror(abs(facts.failed)) if facts.failed else "a primary failed"
            log.error(
                "writes are not protected any more, see vsnapfs status", reason=reason, volume=facts.failed_volume
            )

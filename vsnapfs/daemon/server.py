"""``serve``: the one owner of a repository: captures through live/, shows the tree, answers the verbs, keeps house.

Order of the start: lock and recovery, control socket, mount, readiness: who sees the mount can ask the server. The end
goes the other way: the mount is taken away, calls get a short grace, everything is committed and applied, the lock is
released last.

Concurrency: trio runs names, calls and signals; whatever touches storage runs in threads.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import trio

import vsnapfs
from vsnapfs.binding import protect_memory
from vsnapfs.core.errors import BusyError, VsnapfsError, with_hint
from vsnapfs.core.state import Memory, Status, VerificationState
from vsnapfs.daemon.api import Report, Verb, carried_out
from vsnapfs.daemon.archiving import Archivist, archiving
from vsnapfs.daemon.archiving import by_command as by_archive_command
from vsnapfs.daemon.client import open_repository
from vsnapfs.daemon.control import control_sockets
from vsnapfs.daemon.counts import open_files, requests_by_name
from vsnapfs.daemon.holding import Holding
from vsnapfs.daemon.housekeeping import TEND_EVERY_S, GapCloser, Housekeeping
from vsnapfs.daemon.http import make_app
from vsnapfs.daemon.news import News, telling
from vsnapfs.daemon.pruning import pruning
from vsnapfs.daemon.requests import BranchPromote, BranchRemove, Events, GetEvents, Prune, Request, RestoreLive
from vsnapfs.daemon.rights import Rights
from vsnapfs.daemon.scheduling import Scheduler, maker, scheduling
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
from vsnapfs.daemon.undisturbed import undisturbed
from vsnapfs.daemon.verifying import Verifier, by_command, verifying
from vsnapfs.mounts.holders import users_of

if TYPE_CHECKING:
    from vsnapfs.repository.repository import Repository
    from vsnapfs.tree.fuse import Mount

TOUCHES_VOLUMES = {
    "volume_add": False,
    "volume_remove": False,
    "volume_resize": False,
    "volume_resync": True,
    "import": True,
    "restore_live": True,
    "branch_promote": True,
}
"""Verbs that change live volumes past the mount; True: their content too."""

in_thread = trio.to_thread.run_sync


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
        async with telling(repository) as news:
            _tell_recovery(repository)
            mount = mount_of(repository, mountpoint, options, holding, live=True)
            await _answer_and_tend(repository, mount, announce, holding, memory, news)
    finally:
        with trio.CancelScope(shield=True):
            await in_thread(repository.close)


async def _answer_and_tend(
    repository: Repository, mount: Mount, announce: Announce, holding: Holding, memory: Memory, news: News
) -> None:
    scheduler = Scheduler(repository, maker(repository))
    verifier = Verifier(repository, by_command(repository))
    archivist = Archivist(repository, by_archive_command(repository))
    answers = Answers(repository, mount, holding, memory, news, scheduler, verifier, archivist)
    app = make_app(answers, partial(_health, repository, mount), answers.wait)
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
            told = _end_told(repository, news)
            async with (
                control,
                told,
                mounted(mount, holding) as life,
                scrubbing(repository),
                pruning(repository),
                scheduling(scheduler),
                verifying(verifier),
                archiving(archivist),
            ):
                where = {"repository": str(repository.path), "mountpoint": str(mount.mountpoint)}
                tell = partial(repository.tell, "served", **where, memory=msgspec.structs.asdict(memory))
                await in_thread(tell)
                answers.shown.set()
                announced(holding, announce)
                await life.ending.wait()
                repository.federated.end_holds()
            nursery.cancel_scope.cancel()
    finally:
        os.close(directory_fd)


@asynccontextmanager
async def _end_told(repository: Repository, news: News) -> AsyncIterator[None]:
    """After the block those that follow are told of the end, and wait no more."""
    try:
        yield
    finally:
        with trio.CancelScope(shield=True):
            await in_thread(partial(repository.tell, "ended"))
        news.end()


class Answers:
    """Carries verbs out in the serving process; adds what only it knows. Called in worker threads.

    shown: set by whoever mounts, when what a worker before had open is open again: until then nothing says that it is read.
    """

    def __init__(
        self,
        repository: Repository,
        mount: Mount,
        holding: Holding,
        memory: Memory,
        news: News,
        scheduler: Scheduler,
        verifier: Verifier,
        archivist: Archivist,
    ) -> None:
        self._repository = repository
        self._mount = mount
        self._holding = holding
        self._memory = memory
        self._news = news
        self._scheduler = scheduler
        self._verifier = verifier
        self._archivist = archivist
        self.shown = trio.Event()

    async def wait(self, request: Request[Any]) -> None:
        """Before a verb: in trio, so that who waits for the next event takes no thread of those who ask."""
        if isinstance(request, Prune | BranchRemove | BranchPromote | RestoreLive):
            await self.shown.wait()
        if isinstance(request, GetEvents) and request.wait_s:
            await self._news.wait_newer(request.after, request.wait_s)

    def __call__(self, verb: Verb, request: Request[Any], report: Report) -> Any:
        with undisturbed(self._repository, self._mount, request):
            try:
                result = carried_out(self._repository, verb, request, report)
            except BusyError as error:
                raise self._naming_users(error, request) from error
            finally:  # also what failed may have changed a part
                if verb.name in TOUCHES_VOLUMES:
                    trio.from_thread.run(partial(self._mount.changed, content=TOUCHES_VOLUMES[verb.name]))
        if isinstance(result, Events):
            return msgspec.structs.replace(result, served=True, ending=self._news.ended)
        if isinstance(result, Status):
            return self._served(result)
        return result

    def _naming_users(self, error: BusyError, request: Request[Any]) -> VsnapfsError:
        """Of a branch that is open: by whom."""
        if not isinstance(request, BranchRemove | BranchPromote):
            return error
        users = users_of(self._mount.mountpoint / "branches" / request.name)
        return with_hint(error, f"used by {', '.join(users)}") if users else error

    def _served(self, status: Status) -> Status:
        counts = trio.from_thread.run_sync(self._mount.counts)
        opened = trio.from_thread.run(self._mount.open_volumes)
        data = trio.from_thread.run_sync(self._mount.data)
        transport = trio.from_thread.run_sync(self._mount.transport)
        schedules = trio.from_thread.run_sync(self._scheduler.states)
        failed = [
            f"schedule {state.name}: its last bookmark failed: {state.last_error}"
            for state in schedules
            if state.last_error is not None
        ]
        verifications = self._verifications(status)
        failed += [
            f"verification {state.name}: its last run came to no verdict: {state.last_error}"
            for state in verifications
            if state.last_error is not None
        ]
        archives = [trio.from_thread.run_sync(self._archivist.told, state) for state in status.archiving]
        failed += [
            f"archive {state.name}: its last try failed: {state.last_error}"
            for state in archives
            if state.last_error is not None
        ]
        return msgspec.structs.replace(
            status,
            protected=status.protected and not failed,
            problems=[*status.problems, *failed],
            schedules=schedules,
            verifications=verifications,
            archiving=archives,
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

    def _verifications(self, status: Status) -> list[VerificationState]:
        """What the bookmarks tell, and what the server knows of those that it runs."""
        running = trio.from_thread.run_sync(self._verifier.states)
        return [
            msgspec.structs.replace(
                state,
                next_due=running[state.name].next_due,
                running=running[state.name].running,
                last_error=running[state.name].last_error,
                missed=running[state.name].missed,
            )
            if state.name in running
            else state
            for state in status.verifications
        ]


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
        repository.tell("taken_over", records=facts.kept_records)
    if facts.torn_bytes:
        repository.tell("tail_cut", torn_bytes=facts.torn_bytes)


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

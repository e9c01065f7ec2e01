"""What ``serve`` and ``mount`` have in common: one mount, from its start to a clean end.

A process that shows a mount ends in one of three ways: SIGTERM or SIGINT, ``umount`` by anybody, or an error. The first
two are clean. Errors out of the task tree come back as the one error of core.errors that they are.
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import structlog
import trio
from sdnotify import SystemdNotifier

from vsnapfs.core.errors import VsnapfsError
from vsnapfs.core.model import DataMode
from vsnapfs.daemon.holding import Holding
from vsnapfs.tree.data_mode import DataRules
from vsnapfs.tree.fuse import Mount

if TYPE_CHECKING:
    from vsnapfs.repository.repository import Repository

ENDING = (signal.SIGTERM, signal.SIGINT)

log = structlog.get_logger()


class MountOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the caller chose; None: as the repository's settings say."""

    allow_other: bool | None = None
    data: DataMode | None = None
    """For all points, whatever the settings say of some."""
    sound_part: bool = False
    """Of a damaged journal, what stands before the damage."""


Announce = Callable[[], None]
"""Called once, when the mount answers."""


def mount_of(repository: Repository, mountpoint: Path, options: MountOptions, holding: Holding, *, live: bool) -> Mount:
    """A mount, not yet running, with the settings of the repository where ``options`` are silent."""
    settings = repository.settings.mount
    return Mount(
        repository,
        mountpoint,
        holding,
        live=live,
        allow_other=settings.allow_other if options.allow_other is None else options.allow_other,
        uid=os.geteuid() if settings.uid is None else settings.uid,
        gid=os.getegid() if settings.gid is None else settings.gid,
        transport=settings.transport,
        data=DataRules(
            mode=options.data or settings.data,
            points={} if options.data else settings.points,
            kernel_verify=settings.kernel_verify,
        ),
        scratch=Path(settings.scratch),
    )


class Life:
    """How long a mounted process lives: ``ending`` is set when it shall end, ``unmounted`` when its mount is gone."""

    def __init__(self) -> None:
        self.ending = trio.Event()
        self.unmounted = trio.Event()


@asynccontextmanager
async def mounted(mount: Mount, holding: Holding) -> AsyncIterator[Life]:
    """Run ``mount`` while the block runs; signals end it, and the death of its keeper. The block waits for ``ending`` and
    tidies up; after it, the mount is waited for, or unmounted if the block ended by itself."""
    life = Life()
    with _signals() as signals:
        async with trio.open_nursery() as nursery:
            await nursery.start(_run, mount, life)
            nursery.start_soon(_stop_on_signal, signals, mount, life)
            if holding.left_fd is not None:
                nursery.start_soon(_stop_when_left, holding.left_fd, mount, life)
            yield life
            if not life.ending.is_set():
                await mount.stop()
            await life.unmounted.wait()
            nursery.cancel_scope.cancel()


@contextmanager
def _signals() -> Iterator[AsyncIterator[int]]:
    """Those that end a mount, as they come. Behind the block they do nothing any more, nor does one that came in it and was not taken:
    another must not end what is ending before all is committed."""
    early: list[int] = []
    for number in ENDING:
        signal.signal(number, lambda number, _: early.append(number))
    with trio.open_signal_receiver(*ENDING) as signals:
        for came in early:
            signal.raise_signal(came)
        yield signals
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


async def _run(mount: Mount, life: Life, *, task_status: trio.TaskStatus[None]) -> None:
    await mount.run(task_status=task_status)
    life.unmounted.set()
    life.ending.set()


async def _stop_on_signal(signals: AsyncIterator[int], mount: Mount, life: Life) -> None:
    async for number in signals:
        log.info("ending", signal=signal.Signals(number).name)
        await _stop(mount, life)


async def _stop_when_left(left_fd: int, mount: Mount, life: Life) -> None:
    """A keeper says nothing after it has mounted, so what can be read is its end."""
    await trio.lowlevel.wait_readable(left_fd)
    log.error("the keeper died; ending")
    await _stop(mount, life)


async def _stop(mount: Mount, life: Life) -> None:
    notify_systemd("STOPPING=1")
    life.ending.set()
    await mount.stop()


def announced(holding: Holding, announce: Announce) -> None:
    """The mount answers: say so to all who want to know."""
    announce()
    holding.ready()
    notify_systemd("READY=1")


def allow_many_files() -> None:
    """As many open files as the system lets this process have: a view may lie in thousands of segments."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def notify_systemd(state: str) -> None:
    """Tell systemd, if it started us and wants to know."""
    SystemdNotifier().notify(state)


@contextmanager
def errors_unwrapped() -> Iterator[None]:
    """Turn an exception group of trio into the one error of ours, or the interrupt, in it; any other is a defect."""
    try:
        yield
    except BaseExceptionGroup as group:
        meant = group.subgroup((VsnapfsError, KeyboardInterrupt))
        if meant is None:
            raise
        raise _leaf(meant) from group


def _leaf(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _leaf(first) if isinstance(first, BaseExceptionGroup) else first

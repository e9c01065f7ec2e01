"""Archives of a server: what the policies of ``[archive.NAME]`` want on a medium is put there, bookmark after bookmark, each by a command
of its own.

What is due follows from the bookmarks and the catalog of tapes, so nothing has to be remembered: a server that was killed leaves an
archive that the next one goes on with, or that its command has completed meanwhile. One archive is made at a time for each medium, the
oldest point first.

Concurrency: of trio's thread.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from vsnapfs.core.errors import (
    BusyError,
    CorruptExtentError,
    DegradedError,
    IntegrityError,
    NotFoundError,
    VsnapfsError,
)
from vsnapfs.core.state import ArchivingState
from vsnapfs.core.times import NS_PER_S, iso
from vsnapfs.daemon.child import run_child
from vsnapfs.daemon.due import Clockwork, InThread
from vsnapfs.policy.archive_choice import Due

if TYPE_CHECKING:
    from vsnapfs.repository.repository import Repository

LOOK_S_MAX = 30.0
"""So late at most is seen that time alone has made something due, or that somebody else has archived something."""
NAMES_S = 1.0
"""So late at most that there is another bookmark."""
BUSY_S = 10.0
AGAIN_S_MIN = 10.0
AGAIN_S_MAX = 3600.0
"""After a failure it is tried again, each time after twice as long."""
ANEW_S_MAX = 24 * 3600.0
"""The same of an archive that was begun anew and is of no use again: it has cost tape each time."""

Archive = Callable[[Due], Awaitable[VsnapfsError | None]]
"""Archives what is due. Returns why it did not."""


@asynccontextmanager
async def archiving(archivist: Archivist) -> AsyncIterator[None]:
    """Archive while the block runs. What is under way at its end is told to end, and has a moment; the next server goes on with it."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(archivist.run)
        yield
        nursery.cancel_scope.cancel()


class Archivist:
    """Does what the policies of the settings say."""

    def __init__(
        self,
        repository: Repository,
        archive: Archive,
        wall_ns: Callable[[], int] = time.time_ns,
        in_thread: InThread = trio.to_thread.run_sync,
    ) -> None:
        policies = repository.settings.archive
        clockwork = Clockwork(wall_ns, in_thread)
        self._lines = [
            _Line(repository, [name for name, policy in policies.items() if policy.to == medium], archive, clockwork)
            for medium in sorted({policy.to for policy in policies.values()})
        ]

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            for line in self._lines:
                nursery.start_soon(line.run)

    def told(self, state: ArchivingState) -> ArchivingState:
        """The same, and what the server knows of it: whether it is under way, or has failed."""
        for line in self._lines:
            if state.name in line.own:
                own = line.own[state.name]
                return msgspec.structs.replace(
                    state, under_way=own.under_way, last_error=own.last_error, again=own.again
                )
        return state


class _Own(msgspec.Struct, frozen=True):
    """What nobody but the server knows of a policy."""

    under_way: str | None = None
    last_error: str | None = None
    again: str | None = None


class _Wait:
    """Until when something that has failed is left alone; each time for twice as long."""

    def __init__(self, least_s: float = AGAIN_S_MIN, most_s: float = AGAIN_S_MAX) -> None:
        self.until_s = 0.0
        self._span_s = least_s
        self._most_s = most_s

    def begin(self) -> float:
        """Returns: for how long."""
        span_s, self._span_s = self._span_s, min(2 * self._span_s, self._most_s)
        self.until_s = trio.current_time() + span_s
        return span_s

    @property
    def is_over(self) -> bool:
        return trio.current_time() >= self.until_s


class _Line:
    """The policies of one medium. What fails because of the bookmark lets the others go on; all else would fail them too."""

    def __init__(self, repository: Repository, policies: list[str], archive: Archive, clockwork: Clockwork) -> None:
        self._repository = repository
        self._archive = archive
        self._clockwork = clockwork
        self._all = _Wait()
        self._held_up: Due | None = None
        """What failed last because of the medium."""
        self._apart: dict[tuple[str, str], _Wait] = {}
        """Policies and bookmarks that are left alone for longer than the others."""
        self._anew: set[tuple[str, str]] = set()
        self.own = dict.fromkeys(policies, _Own())

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            generation = self._repository.generation
            due = await self._next()
            if due is None:
                await self._rest(generation)
            else:
                await self._make(due)

    async def _next(self) -> Due | None:
        try:
            found: list[Due] = await self._clockwork.call(
                partial(self._repository.archives_due, list(self.own), frozenset(self._anew))
            )
        except VsnapfsError as error:
            if not self._all.is_over:
                return None
            if isinstance(error, BusyError):
                self._all.until_s = trio.current_time() + BUSY_S
                return None
            self._held_up, again_ns = None, self._again_ns(self._all)
            for policy in self.own:
                await self._failed(policy, "", error, again_ns)
            return None
        there = {(due.policy, due.bookmark) for due in found}
        self._apart = {key: wait for key, wait in self._apart.items() if key in there}
        self._anew &= there
        for policy in self.own.keys() - {due.policy for due in found}:  # somebody else has done it, or it has gone
            self.own[policy] = _Own()
        if not self._all.is_over and not await self._is_mended(found):
            return None
        waits = self._apart
        return next(
            (due for due in found if (key := (due.policy, due.bookmark)) not in waits or waits[key].is_over), None
        )

    async def _is_mended(self, found: list[Due]) -> bool:
        """What failed because of the medium is on it now: somebody else has tried, and nothing has to wait any more."""
        held_up = self._held_up
        if held_up is None or any((due.policy, due.seqno) == (held_up.policy, held_up.seqno) for due in found):
            return False
        try:
            entry = await self._clockwork.call(partial(self._repository.archive_of, held_up))
        except VsnapfsError:
            return False
        if entry is not None:
            self._all, self._held_up = _Wait(), None
        return entry is not None

    async def _rest(self, generation: int) -> None:
        """Until it may be another thing that is due."""
        left_s = self._all.until_s - trio.current_time()
        with trio.move_on_after(min(left_s, LOOK_S_MAX) if left_s > 0 else LOOK_S_MAX):
            while left_s > 0 or self._repository.generation == generation:  # noqa: ASYNC110  no event, of a thread's number
                await trio.sleep(NAMES_S)

    async def _make(self, due: Due) -> None:
        before = self.own[due.policy]
        self.own[due.policy] = msgspec.structs.replace(before, under_way=due.bookmark, again=None)
        error = await self._archive(due)
        self.own[due.policy] = before
        try:
            entry = await self._clockwork.call(partial(self._repository.archive_of, due))
        except VsnapfsError as unread:
            error, entry = error or unread, None
        if error is not None or entry is None:
            missing = NotFoundError("its archive has ended, and the catalog of tapes does not have it")
            await self._not_made(due, error or missing)
            return
        self._all, self._held_up = _Wait(), None
        self.own[due.policy] = _Own()
        detail = {"policy": due.policy, "medium": due.to, "archive": entry.uuid, "archive_kind": entry.kind}
        await self._tell("archived", due.bookmark, seqno=due.seqno, stored_bytes=entry.stored_bytes, **detail)

    async def _not_made(self, due: Due, error: VsnapfsError) -> None:
        if isinstance(error, BusyError):
            self._all.until_s = trio.current_time() + BUSY_S
            return
        if isinstance(error, NotFoundError) and not await self._clockwork.call(partial(self._stands, due)):
            return
        key = due.policy, due.bookmark
        wait = self._all
        if isinstance(error, CorruptExtentError):
            wait = self._apart.setdefault(key, _Wait())
        elif key in self._anew:
            wait = self._apart.setdefault(key, _Wait(AGAIN_S_MAX, ANEW_S_MAX))
        elif isinstance(error, IntegrityError | DegradedError):  # what is on tape of it is of no use
            self._anew.add(key)
        if wait is self._all:
            self._held_up = due
        await self._failed(due.policy, due.bookmark, error, self._again_ns(wait))

    def _again_ns(self, wait: _Wait) -> int:
        return self._clockwork.wall_ns() + round(wait.begin() * NS_PER_S)

    async def _failed(self, policy: str, bookmark: str, error: VsnapfsError, again_ns: int) -> None:
        """Tell it, if it is another reason than before."""
        reason = f"{bookmark}: {error}" if bookmark else str(error)
        known, again = self.own[policy].last_error, iso(again_ns)
        self.own[policy] = _Own(last_error=reason, again=again)
        if reason != known:
            await self._tell("archive_failed", bookmark, policy=policy, reason=str(error), again=again)

    def _stands(self, due: Due) -> bool:
        try:
            return self._repository.bookmark(due.bookmark).seqno == due.seqno
        except NotFoundError:
            return False

    async def _tell(self, kind: Any, bookmark: str, **detail: Any) -> None:
        await self._clockwork.call(partial(self._repository.tell, kind, bookmark, **detail))


def by_command(repository: Repository) -> Archive:
    """Archives as ``vsnapfs archive`` does, in a process of its own."""

    async def archive(due: Due) -> VsnapfsError | None:
        ended = await run_child(repository.path, words_of(due, repository))
        return None if ended.status == 0 else ended.failure("archive")

    return archive


def words_of(due: Due, repository: Repository) -> list[str]:
    """The command that does what is due."""
    policy = repository.settings.archive[due.policy]
    words = ["archive", "--json", "--to", due.to, "--by-policy", due.policy]
    words += ["--resume"] if due.resume else []
    words += [] if due.since is None else ["--since", due.since]
    for volume in due.volumes:
        words += ["--volume", volume]
    words += ["--verify"] if policy.verify else []
    words += ["--compress"] if policy.compress else []
    words += [] if policy.rate_bytes is None else ["--rate", str(policy.rate_bytes)]
    return [*words, "--", due.bookmark]

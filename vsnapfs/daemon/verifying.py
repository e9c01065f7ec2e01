"""Verifications of a server: when a profile of ``[verify.NAME]`` is due, each bookmark that is its turn is verified by a command of
its own.

That has to be another process: it looks at the mount, which this one answers for. One runs at a time, whichever profile it is of.
It gives its verdict by the control socket; what is left to tell here is why there is none.

Concurrency: of trio's thread.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import trio

from vsnapfs.core.errors import BusyError, IntegrityError, NotFoundError, VsnapfsError
from vsnapfs.core.model import Bookmark
from vsnapfs.core.state import VerificationState
from vsnapfs.daemon.child import run_child
from vsnapfs.daemon.due import Clockwork, DueRuns, InThread
from vsnapfs.policy.verification import Verification, due

if TYPE_CHECKING:
    from vsnapfs.repository.repository import Repository

BUSY_S_MAX = 60.0
"""So long a run waits for a verification of somebody else."""
AGAIN_S = 1.0


class Judged(NamedTuple):
    """How a verification ended: with a verdict, or not."""

    good: bool
    error: VsnapfsError | None


Judge = Callable[[str, str], Awaitable[Judged]]
"""Verifies a bookmark with a profile, both by name."""


@asynccontextmanager
async def verifying(verifier: Verifier) -> AsyncIterator[None]:
    """Run the verifications while the block runs. One that is under way at its end is told to end, and has a moment."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(verifier.run)
        yield
        nursery.cancel_scope.cancel()


class Verifier:
    """Runs the profiles of the settings that have a time."""

    def __init__(
        self,
        repository: Repository,
        judge: Judge,
        wall_ns: Callable[[], int] = time.time_ns,
        in_thread: InThread = trio.to_thread.run_sync,
    ) -> None:
        turn = trio.Lock()
        clockwork = Clockwork(wall_ns, in_thread)
        handled_ns = repository.verifications_handled_ns()
        self._runs = [
            _Runs(repository, name, verification, handled_ns.get(name), turn, judge, clockwork)
            for name, verification in sorted(repository.settings.verify.items())
            if verification.is_timed
        ]

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            for runs in self._runs:
                nursery.start_soon(runs.run)

    def states(self) -> dict[str, VerificationState]:
        """By name. What a verdict was, the bookmarks tell."""
        return {runs.state.name: runs.state for runs in self._runs}


class _Runs(DueRuns[VerificationState]):
    """One profile."""

    def __init__(
        self,
        repository: Repository,
        name: str,
        verification: Verification,
        handled_ns: int | None,
        turn: trio.Lock,
        judge: Judge,
        clockwork: Clockwork,
    ) -> None:
        state = VerificationState(name=name, when=verification.when)
        super().__init__(verification, f"{repository.uuid}/verify/{name}", handled_ns, clockwork, state)
        self._repository = repository
        self._name = name
        self._verification = verification
        self._turn = turn
        self._judge = judge

    async def once(self) -> None:
        async with self._turn:
            bookmarks = await self.clockwork.call(self._repository.bookmarks)
            for bookmark in due(self._name, self._verification, bookmarks):
                if not await self._verify(bookmark):
                    return

    async def tell(self, kind: Any, **detail: Any) -> None:
        await self.clockwork.call(partial(self._repository.tell, kind, self._name, **detail))

    async def tell_missed(self, **detail: Any) -> None:
        await self.tell("verify_missed", **detail)

    async def _verify(self, bookmark: Bookmark) -> bool:
        """False: it came to no verdict, and the next one would not either."""
        judged = await self._judged(bookmark.name)
        if judged.error is None:
            self.say(last_error=None)
            return True
        if isinstance(judged.error, NotFoundError) and not await self.clockwork.call(partial(self._stands, bookmark)):
            return True
        reason = str(judged.error)
        self.say(last_error=reason)
        detail = {"seqno": bookmark.seqno, "profile": self._name, "reason": reason}
        await self.clockwork.call(partial(self._repository.tell, "verify_failed", bookmark.name, **detail))
        return False

    async def _judged(self, bookmark: str) -> Judged:
        """As the command says; one that somebody else keeps waiting is tried again for a while."""
        give_up_s = trio.current_time() + BUSY_S_MAX
        while True:
            judged = await self._judge(bookmark, self._name)
            if not isinstance(judged.error, BusyError) or trio.current_time() >= give_up_s:
                return judged
            await trio.sleep(AGAIN_S)

    def _stands(self, bookmark: Bookmark) -> bool:
        try:
            return self._repository.bookmark(bookmark.name).created_seqno == bookmark.created_seqno
        except NotFoundError:
            return False


def by_command(repository: Repository) -> Judge:
    """Verifies as ``vsnapfs verify`` does, in a process of its own."""

    async def judge(bookmark: str, profile: str) -> Judged:
        ended = await run_child(repository.path, ["verify", "--profile", profile, "--json", "--", bookmark])
        if ended.error is None and ended.status in (0, IntegrityError.exit_status):
            return Judged(ended.status == 0, None)
        return Judged(False, ended.failure("verification"))

    return judge

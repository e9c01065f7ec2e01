"""What the policies of ``[archive.NAME]`` want archived now, done once, by whoever asks for it; a server does it by itself.

Source: docs/archive-policy.md.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from vsnapfs.archive.archiving import Archived
from vsnapfs.archive.request import Wanted, to_medium
from vsnapfs.archive.writing import Clock, Report
from vsnapfs.core.errors import CorruptExtentError, DegradedError, IntegrityError, NotFoundError, VsnapfsError
from vsnapfs.core.names import near
from vsnapfs.media.kinds import Ask
from vsnapfs.policy.archive_choice import Due
from vsnapfs.repository.repository import Repository


class ArchiveFailure(msgspec.Struct, frozen=True, kw_only=True):
    """What was due and could not be archived."""

    policy: str
    bookmark: str
    medium: str
    reason: str


class ArchivesDue(msgspec.Struct, frozen=True, kw_only=True):
    """What was done, in its order, and what was not."""

    archives: list[Archived]
    failures: list[ArchiveFailure]


class DueArchives:
    """One run over some policies. ``answer``, and of the first failure its ``exit_status``; 0 without one."""

    def __init__(
        self, repository: Repository, policies: Collection[str], report: Report, clock: Clock, ask: Ask | None
    ) -> None:
        """policies: by name, none: all. Raises: NotFoundError: there is no such policy."""
        known = repository.settings.archive
        for name in policies:
            if name not in known:
                hint = None if known else "[archive.NAME] in vsnapfs.toml says what is archived by itself"
                raise NotFoundError(f"there is no policy {name!r}", near=near(name, known), hint=hint)
        self._repository = repository
        self._policies = policies or list(known)
        self._report = report
        self._clock = clock
        self._ask = ask
        self._media_left: set[str] = set()
        """Those that nothing more is written to."""
        self._done: set[tuple[str, str]] = set()
        self.answer = ArchivesDue(archives=[], failures=[])
        self.exit_status = 0

    def run(self) -> None:
        """What fails because of its medium lets those on others go on, and what fails because of its point lets all others go on.

        Raises: IntegrityError, StoreError, BusyError: the catalog of tapes cannot be read.
        """
        while (due := self._next()) is not None:
            try:
                self.answer.archives.extend(self._archived(due))
            except VsnapfsError as error:
                if not (isinstance(error, NotFoundError) and self._has_gone(due)):
                    self._failed(due, error)
            self._done.add((due.policy, due.bookmark))

    def _has_gone(self, due: Due) -> bool:
        """Its bookmark has, or is another: it may take long until a tape is there."""
        self._repository.refresh()
        try:
            return self._repository.bookmark(due.bookmark).seqno != due.seqno
        except NotFoundError:
            return True

    def _failed(self, due: Due, error: VsnapfsError) -> None:
        if not isinstance(error, CorruptExtentError):
            self._media_left.add(due.to)
        self.exit_status = self.exit_status or error.exit_status
        self.answer.failures.append(
            ArchiveFailure(policy=due.policy, bookmark=due.bookmark, medium=due.to, reason=str(error))
        )

    def _next(self, anew: Collection[tuple[str, str]] = ()) -> Due | None:
        self._repository.refresh()
        for due in self._repository.archives_due(self._policies, anew):
            if due.to not in self._media_left and (due.policy, due.bookmark) not in self._done:
                return due
        return None

    def _archived(self, due: Due) -> list[Archived]:
        """None: somebody else has done it meanwhile. Raises: as the archive of a point."""
        try:
            return self._once(due)
        except CorruptExtentError:
            raise
        except (IntegrityError, DegradedError):  # what is on tape of it is of no use
            again = self._next([(due.policy, due.bookmark)])
            if again is None or again.seqno != due.seqno:
                raise
            return self._once(again)

    def _once(self, due: Due) -> list[Archived]:
        policy = self._repository.settings.archive[due.policy]
        wanted = Wanted(
            points=(due.bookmark,),
            to=due.to,
            since=due.since,
            volumes=due.volumes,
            compress=policy.compress,
            verify=policy.verify,
            rate_bytes=policy.rate_bytes,
            resume=due.resume,
            by_policy=due.policy,
        )
        return list(to_medium(self._repository, wanted, self._report, self._clock, self._ask))

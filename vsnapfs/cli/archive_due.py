"""``archive --due``: what the policies of the settings want archived now, once; what a server does by itself."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from vsnapfs.cli.session import Session
from vsnapfs.cli.signals import ended_as_by_hand
from vsnapfs.cli.table import printable
from vsnapfs.core.errors import CorruptExtentError, DegradedError, IntegrityError, NotFoundError, VsnapfsError
from vsnapfs.core.names import near

if TYPE_CHECKING:
    from vsnapfs import Repository
    from vsnapfs.archive.archiving import Archived
    from vsnapfs.archive.writing import Report
    from vsnapfs.policy.archive_choice import Due


class ArchiveFailure(msgspec.Struct, frozen=True, kw_only=True):
    """What was due and could not be archived."""

    policy: str
    bookmark: str
    medium: str
    reason: str


class ArchivesDue(msgspec.Struct, frozen=True, kw_only=True):
    """What ``archive --due`` has done."""

    archives: list[Any]
    failures: list[ArchiveFailure]


def archive_due(session: Session, policies: tuple[str, ...]) -> int:
    """Returns the exit status: that of the first failure, 0 without one. What fails because of its medium, lets those on others go on.

    Raises: NotFoundError: no such policy. BusyError, IntegrityError: the catalog of tapes cannot be read.
    """
    from vsnapfs.cli.progress import shown

    with ended_as_by_hand(), session.client().reading() as repository:
        known = repository.settings.archive
        for name in policies:
            if name not in known:
                hint = None if known else "[archive.NAME] in vsnapfs.toml says what is archived by itself"
                raise NotFoundError(f"there is no policy {name!r}", near=near(name, known), hint=hint)
        with shown(wanted=not session.json) as report:
            work = _Work(repository, policies or tuple(known), report)
            work.run()
    session.show(ArchivesDue(archives=work.made, failures=[_told(*each) for each in work.failed]), _lines(work))
    return work.failed[0][1].exit_status if work.failed else 0


class _Work:
    """made: in their order. failed: what, and why."""

    def __init__(self, repository: Repository, policies: tuple[str, ...], report: Report) -> None:
        self._repository = repository
        self._policies = policies
        self._report = report
        self._media: set[str] = set()
        """Those that nothing more is written to."""
        self._left: set[tuple[str, str]] = set()
        """Policies and bookmarks of which no more can be done."""
        self.made: list[Archived] = []
        self.failed: list[tuple[Due, VsnapfsError]] = []

    def run(self) -> None:
        while (due := self._next()) is not None:
            try:
                self.made.append(self._archived(due))
            except VsnapfsError as error:
                if not isinstance(error, CorruptExtentError):
                    self._media.add(due.to)
                self.failed.append((due, error))
            self._left.add((due.policy, due.bookmark))

    def _next(self, anew: frozenset[tuple[str, str]] = frozenset()) -> Due | None:
        self._repository.refresh()
        for due in self._repository.archives_due(self._policies, anew):
            if due.to not in self._media and (due.policy, due.bookmark) not in self._left:
                return due
        return None

    def _archived(self, due: Due) -> Archived:
        """Raises: as the archive of a point."""
        try:
            return self._once(due)
        except CorruptExtentError:
            raise
        except (IntegrityError, DegradedError):  # what is on tape of it is of no use
            again = self._next(frozenset({(due.policy, due.bookmark)}))
            if again is None or again.seqno != due.seqno or not due.resume:
                raise
            return self._once(again)

    def _once(self, due: Due) -> Archived:
        from vsnapfs.archive.request import Wanted, to_medium
        from vsnapfs.cli.prompt import asker

        policy = self._repository.settings.archive[due.policy]
        wanted = Wanted(
            points=(due.bookmark,),
            to=due.to,
            since=None if due.since_seqno is None else f"@{due.since_seqno}",
            volumes=due.volumes,
            compress=policy.compress,
            verify=policy.verify,
            rate_bytes=policy.rate_bytes,
            resume=due.resume,
        )
        (archived,) = to_medium(self._repository, wanted, self._report, time.time_ns, asker())
        return archived


def _told(due: Due, error: VsnapfsError) -> ArchiveFailure:
    return ArchiveFailure(policy=due.policy, bookmark=due.bookmark, medium=due.to, reason=str(error))


def _lines(work: _Work) -> Iterator[str]:
    from vsnapfs.cli.archive import archived_lines

    yield from archived_lines(work.made)
    if not work.made and not work.failed:
        yield "nothing is due"
    for due, error in work.failed:
        print(printable(f"vsnapfs: {due.bookmark} to {due.to} ({due.policy}): {error}"), file=sys.stderr)

"""A bookmark for which the members of a profile are made still: who asks the freezer, and what becomes of its answer.

The order is what makes it honest: the moment is marked while all are still; all are let go; only then, when the freezer has
said that they were still until after the mark, the moment gets its name and its consistency.

Source: docs/quiesce.md.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import msgspec
import structlog

import vsnapfs
from vsnapfs.core.errors import UsageError, VsnapfsError
from vsnapfs.core.model import Bookmark, Consistency, MemberOutcome, QuiescePhase
from vsnapfs.core.state import Progress
from vsnapfs.quiesce.ground import Ground
from vsnapfs.quiesce.member import Occasion
from vsnapfs.quiesce.quiesce import Listener, NotStill, quiesced

if TYPE_CHECKING:
    from vsnapfs.daemon.requests import BookmarkAdd
    from vsnapfs.policy.profiles import Profile
    from vsnapfs.repository.repository import Repository

Report = Callable[[Progress], None]
M = TypeVar("M")

log = structlog.get_logger()


def bookmark_quiesced(repository: Repository, request: BookmarkAdd, report: Report) -> Bookmark:
    """Make the bookmark that ``request`` wants. Every member of it that was not frozen, or not thawed well, has an ``error``.

    Raises: NotFoundError: no such profile. UsageError: it cannot be, or wants something frozen that must not be. BusyError: another is
    under way. NameTakenError, GapError. TimedOutError, QuiesceError and what members raise: nothing was made. All were let go.
    """
    from vsnapfs.repository.bookmarks import describe

    if request.at is not None or request.consistency != "crash":
        raise UsageError("a profile says what its bookmarks are, and when", hint="leave out --at and --consistency")
    name = request.quiesce or ""
    profile = repository.marks.profile(name)
    body = describe(request.name, "crash", request.application, request.note, request.schedule)
    body = msgspec.structs.replace(body, profile=name)
    repository.marks.require_possible(body)
    occasion = Occasion(
        repository=str(repository.path), profile=name, bookmark=request.name, deadline_s=profile.deadline_s
    )
    mark = partial(repository.marks.mark, request.name)
    teller = _Teller(repository, request.name, report)
    with repository.marks.under_way(name, request.name, profile.deadline_s):
        moment = marked_still(profile, occasion, list(grounds_of(repository)), mark, teller)
        body = msgspec.structs.replace(body, consistency=moment.consistency, members=moment.members)
        made = repository.marks.name(moment.mark, body)
    if moment.fell_back:
        repository.tell("bookmark_fell_back", made.name, profile=name, reason=moment.fell_back)
    for member in made.members:
        if member.outcome == "frozen" and member.error:
            repository.tell("still_frozen", made.name, profile=name, member=member.name, reason=member.error)
    return made


class Moment(NamedTuple, Generic[M]):
    """A moment at which all were still, or, where the profile allows it, were not, and how consistent that makes it."""

    mark: M
    consistency: Consistency
    members: tuple[MemberOutcome, ...]
    fell_back: str = ""
    """Why they were not."""


def marked_still(
    profile: Profile, occasion: Occasion, grounds: list[Ground], mark: Callable[[], M], listener: Listener | None = None
) -> Moment[M]:
    """Call ``mark`` while all members are still. Raises: whatever kept one from being still; whatever ``mark`` raises."""
    from vsnapfs.repository.marks import weakest

    try:
        with quiesced(profile, occasion, grounds, listener) as still:
            made = mark()
    except NotStill as failure:
        error, members = failure.error, failure.members
        if profile.fallback == "none" or isinstance(error, UsageError):
            raise error from failure
        return Moment(mark(), "crash", _named(members, error), str(error))
    return Moment(made, weakest(still.members), still.members)


def _named(members: tuple[MemberOutcome, ...], error: VsnapfsError) -> tuple[MemberOutcome, ...]:
    """Members of whom at least one says what went wrong: also where all were frozen, and not for long enough."""
    if any(member.outcome != "frozen" for member in members):
        return members
    return tuple(
        msgspec.structs.replace(member, outcome="lost", error=member.error or str(error)) for member in members
    )


class _Teller(Listener):
    """Tells ``status``, the log and who waits."""

    def __init__(self, repository: Repository, bookmark: str, report: Report) -> None:
        self._repository = repository
        self._bookmark = bookmark
        self._report = report
        self._phase: QuiescePhase = "preparing"

    def phase(self, phase: QuiescePhase) -> None:
        self._phase = phase
        self._repository.marks.say_phase(phase)

    def remark(self, text: str) -> None:
        """Somebody may be still now: so this goes to the log of a server alone, and waits for nothing of the repository's."""
        if structlog.is_configured():
            log.warning("quiesce", remark=text)

    def alive(self) -> None:
        self._report(Progress(what=f"{self._phase} for {self._bookmark}", done=0, total=1, unit="files"))


def grounds_of(repository: Repository) -> Iterator[Ground]:
    """What must go on while others are still, or nobody could make the mark, or tell of it."""
    yield Ground(what="the repository", path=str(repository.path))
    for volume in repository.volumes():
        if volume.primary == "path" and volume.primary_path is not None and os.path.exists(volume.primary_path):
            yield Ground(what=f"the primary of {volume.name}", path=volume.primary_path)
    scratch = repository.settings.mount.scratch
    if os.path.isdir(scratch):
        yield Ground(what="the scratch directory", path=scratch)
    for place in dict.fromkeys([str(Path(vsnapfs.__file__).parent), sys.prefix, sys.base_prefix, "/"]):
        yield Ground(what="the program", path=place)
    for number in (1, 2):
        if (path := _written_to(number)) is not None:
            yield Ground(what="the log", path=path)


def _written_to(fd: int) -> str | None:
    """The file that a standard descriptor goes to, if it is one that lies on a filesystem."""
    try:
        return os.readlink(f"/proc/self/fd/{fd}") if stat.S_ISREG(os.fstat(fd).st_mode) else None
    except OSError:
        return None

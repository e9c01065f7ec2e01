"""One bookmark over several repositories: all carry it, or none does.

The name is reserved in all, all are held, each tells where it stands, all are let go: that is the cut, and writers wait for
no more than this. Then all but the first promise, durably, to do what the first decides; the first decides, by its own
bookmark; the others make theirs. Whoever has promised and hears nothing asks the first (daemon.settling). So whatever is
killed at any step, it comes to all or none.

Repositories with a server are asked through it; others are opened here, for as long as it takes: nobody writes to those.

Source: docs/federation.md; vsnapfs/repository/federation.py for what each step leaves behind.
"""

from __future__ import annotations

import time
import uuid as uuids
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from vsnapfs.core.errors import DegradedError, UsageError, VsnapfsError, at_place
from vsnapfs.core.model import Bookmark, Consistency, FederatedRepository, Federation
from vsnapfs.daemon.api import FAULTS_OF_WHO_ASKS, verb_of
from vsnapfs.daemon.client import connect, open_repository
from vsnapfs.daemon.quiescing import Moment, grounds_of, marked_still
from vsnapfs.daemon.requests import (
    FederatedDecide,
    FederatedDrop,
    FederatedFinish,
    FederatedHold,
    FederatedLetGo,
    FederatedPrepare,
    FederatedReserve,
    FederatedVerdict,
    GetFederatedVerdict,
    Request,
)
from vsnapfs.daemon.settling import settle_unserved
from vsnapfs.quiesce.ground import Ground
from vsnapfs.quiesce.member import Occasion

if TYPE_CHECKING:
    from vsnapfs.repository.repository import Repository

RESERVED_S = 10.0
"""How long the name is reserved after each step, beyond what a quiesce may take."""
STILL_S = 60.0
"""What a freezer may take, beside the deadline of its profile."""
VERDICT_TRIES = 4
VERDICT_PAUSE_S = 0.5

R = TypeVar("R")
Step = Callable[[str], None]


class Said(NamedTuple):
    """What the bookmark will say, whatever becomes of the members of a profile. ``profile``: empty: of none."""

    consistency: Consistency
    application: str
    note: str
    profile: str


class Site:
    """One of the repositories: its server, or the repository itself, opened here."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        """stack: ends what is opened. Raises: what the client and Repository.open raise."""
        self._client = connect(path)
        self._repository: Repository | None = None
        if not self._client.is_served():
            self._repository = stack.enter_context(open_repository(path, owner=True))
        self.place = FederatedRepository(uuid="", path=str(path), seqno=0)

    def ask(self, request: Request[R]) -> R:
        """Raises: whatever the verb raises, saying where; also that its server is gone."""
        try:
            if self._repository is None:
                return self._client.call(request)
            answer: R = verb_of(request).run(self._repository, request, lambda _: None)
            return answer
        except VsnapfsError as error:
            raise at_place(error, self.place.path) from error

    def reserve(self, federation: str, name: str, seconds: float) -> None:
        found = self.ask(FederatedReserve(id=federation, name=name, seconds=seconds))
        self.place = FederatedRepository(uuid=found.uuid, path=found.path, seqno=0)

    def hold(self, federation: str) -> None:
        found = self.ask(FederatedHold(id=federation))
        self.place = FederatedRepository(uuid=found.uuid, path=found.path, seqno=found.seqno)


def bookmark_all(
    paths: Sequence[Path],
    name: str,
    *,
    consistency: Consistency = "crash",
    application: str = "",
    note: str = "",
    quiesce: str | None = None,
    step: Step = lambda _: None,
) -> Bookmark:
    """Name this moment in all repositories, so that it is one cut: what was answered before anything that is in one
    of them was written, is in all.

    Args: paths: the first decides. quiesce: a profile in the settings of the first, whose members are made still for it, by a
    freezer of this process; it says the consistency. step: is told what was done, for tests.
    Returns: the first's bookmark. Raises: DegradedError: it is made, and some do not carry it yet, or it is not known yet
    whether it is made; anything else: none carries it, or will.
    """
    _require_several(paths)
    if quiesce is not None and consistency != "crash":
        raise UsageError("a profile says what its bookmarks are", hint="leave out --consistency")
    still = None if quiesce is None else _Stillness(paths, quiesce, name)
    for path in paths:
        settle_unserved(path)
    said = Said(consistency=consistency, application=application, note=note, profile=quiesce or "")
    with ExitStack() as stack:
        return _made([Site(path, stack) for path in paths], name, said, still, step)


def _made(sites: Sequence[Site], name: str, said: Said, still: _Stillness | None, step: Step) -> Bookmark:
    """The steps, in their order. Returns, raises: as bookmark_all."""
    federation = str(uuids.uuid4())
    with _dropped_if_it_fails(federation, sites):
        _reserve(sites, federation, name, 0 if still is None else still.seconds)
        step("reserved")
        cut = partial(_cut, sites, federation, step)
        moment = Moment(cut(), said.consistency, ()) if still is None else still.marked(cut)
        for site in sites:
            site.ask(FederatedPrepare(id=federation, first=sites[0].place))
            step("prepared")
    decide = FederatedDecide(
        name=name,
        federation=Federation(id=federation, repositories=tuple(site.place for site in sites)),
        consistency=moment.consistency,
        application=said.application,
        note=said.note,
        profile=said.profile,
        members=moment.members,
    )
    decided = _decided(sites, decide)
    step("decided")
    _finish(sites, decided, step)
    return decided


class _Stillness:
    """A profile of the first repository. What any of the repositories lies on must not be made still."""

    def __init__(self, paths: Sequence[Path], profile: str, bookmark: str) -> None:
        """Raises: NotFoundError: no such profile."""
        self._grounds: list[Ground] = []
        for number, path in enumerate(paths):
            with open_repository(path, owner=False) as repository:
                if number == 0:
                    self._profile = repository.marks.profile(profile)
                self._grounds += grounds_of(repository)
        self._occasion = Occasion(
            repository=str(paths[0]), profile=profile, bookmark=bookmark, deadline_s=self._profile.deadline_s
        )
        self.seconds = STILL_S + 3 * self._profile.deadline_s

    def marked(self, cut: Callable[[], None]) -> Moment[None]:
        """Raises: what daemon.quiescing raises."""
        return marked_still(self._profile, self._occasion, self._grounds, cut)


def _require_several(paths: Sequence[Path]) -> None:
    if len(paths) < 2:
        raise UsageError("a bookmark over several repositories needs two at least")
    places = [_place(path) for path in paths]
    twice = next((path for path, place in zip(paths, places, strict=True) if places.count(place) > 1), None)
    if twice is not None:
        raise UsageError(f"{twice} is given twice", hint="give each repository once")


def _place(path: Path) -> object:
    """The same for one directory, by whichever path; a bind mount shows in no path."""
    try:
        found = path.stat()
    except OSError:
        return path  # whoever opens it says what is wrong
    return found.st_dev, found.st_ino


@contextmanager
def _dropped_if_it_fails(federation: str, sites: Sequence[Site]) -> Iterator[None]:
    """The first is told first: from then on nobody can decide it. Who is not reached finds out."""
    try:
        yield
    except FAULTS_OF_WHO_ASKS:
        _drop(federation, sites, "")
        raise
    except VsnapfsError as error:
        _drop(federation, sites, str(error))
        raise
    except BaseException:
        _drop(federation, sites, "the command that made it was ended")
        raise


def _drop(federation: str, sites: Sequence[Site], why: str) -> None:
    for site in sites:
        with suppress(VsnapfsError):
            site.ask(FederatedDrop(id=federation, why=why))


def _reserve(sites: Sequence[Site], federation: str, name: str, still_s: float) -> None:
    """Raises: UsageError: a repository and a copy of it."""
    seen: dict[str, str] = {}
    for site in sites:
        site.reserve(federation, name, RESERVED_S + still_s)
        if site.place.uuid in seen:
            raise UsageError(f"{site.place.path} is the same repository as {seen[site.place.uuid]}, or a copy of it")
        seen[site.place.uuid] = site.place.path


def _cut(sites: Sequence[Site], federation: str, step: Step) -> None:
    """In the order of their uuids, so that two who do this at once never wait for each other."""
    ordered = sorted(sites, key=lambda site: site.place.uuid)
    for site in ordered:
        site.hold(federation)
        step("held")
    for site in ordered:
        site.ask(FederatedLetGo(id=federation))
        step("let go")


def _decided(sites: Sequence[Site], decide: FederatedDecide) -> Bookmark:
    """The first's bookmark. Raises: as bookmark_all."""
    try:
        return sites[0].ask(decide)
    except VsnapfsError as error:
        verdict = _asked_again(sites[0], decide.federation.id, str(error))
        if verdict is None:
            raise DegradedError(
                f"whether bookmark {decide.name!r} was made is not known yet: {error}",
                hint=f"the others ask {sites[0].place.path} until it says so; see `vsnapfs bookmark list`",
            ) from error
        if verdict.bookmark is not None:
            return verdict.bookmark
        _drop(decide.federation.id, sites, str(error))
        raise


def _asked_again(first: Site, federation: str, why: str) -> FederatedVerdict | None:
    """What came of a decision that failed, and why; None: it cannot say."""
    for _ in range(VERDICT_TRIES):
        try:
            found = first.ask(GetFederatedVerdict(id=federation, uuid=first.place.uuid))
        except VsnapfsError:
            time.sleep(VERDICT_PAUSE_S)
            continue
        if found.state != "open":
            return found
        _drop(federation, [first], why)  # it was refused; or it is still being done, and then this waits for it
    return None


def _finish(sites: Sequence[Site], decided: Bookmark, step: Step) -> None:
    behind: list[str] = []
    for site in sites[1:]:
        try:
            site.ask(FederatedFinish(decided=decided))
        except VsnapfsError as error:
            behind.append(f"{site.place.path} does not carry it yet ({error})")
        step("finished")
    if behind:
        raise DegradedError(
            f"bookmark {decided.name!r} is made, but {'; '.join(behind)}",
            hint="it follows by itself with its next server",
        )

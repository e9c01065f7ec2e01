"""What ``recall`` reads: tapes, files that an archive was written to, or one that comes out of a pipe."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from vsnapfs.cli.session import Session
from vsnapfs.core.errors import NotFoundError, UsageError, from_os_error

if TYPE_CHECKING:
    from vsnapfs.archive.chain import Plan
    from vsnapfs.archive.damage import Flaw
    from vsnapfs.archive.given import GivenTapes
    from vsnapfs.archive.landing import Landing
    from vsnapfs.archive.piped import Piped
    from vsnapfs.archive.places import Known
    from vsnapfs.archive.recall import Recalled, Report
    from vsnapfs.media.plain import PipeReader

PIPE = "-"


class Source(Protocol):
    """plan: what makes the point. flaws: what was seen of damage before the first byte."""

    @property
    def plan(self) -> Plan: ...

    @property
    def flaws(self) -> list[Flaw]: ...

    def require(self) -> None:
        """Raises: NotFoundError: something that is needed is not there."""

    def recall(self, landing: Landing, report: Report, *, publish: bool) -> Recalled:
        """See Recall.run."""


class TapeSource:
    def __init__(self, known: Known, plan: Plan, given: dict[str, Any]) -> None:
        self.plan = plan
        self.flaws = known.damage.flaws
        self._known = known
        self._tapes = known.given
        self._given = given

    def require(self) -> None:
        """If another way to make the point has all that it needs, and this one has not, it is that."""
        if self._given["salvage"]:
            return
        try:
            _require(self.plan, self._tapes)
        except NotFoundError:
            for other in self._known.others(self.plan):
                with suppress(NotFoundError):
                    _require(other.plan, other.given)
                    self.plan, self._tapes = other
                    return
            raise

    def recall(self, landing: Landing, report: Report, *, publish: bool) -> Recalled:
        from vsnapfs.archive.layer import Options
        from vsnapfs.archive.recall import Recall

        given = self._given
        options = Options(_identities(given), verify=not given["no_verify"], salvage=given["salvage"])
        others = self._known.others(self.plan)
        return Recall(self.plan, self._tapes, landing, options, report, others).run(publish=publish)


def _require(plan: Plan, tapes: GivenTapes) -> None:
    plan.require_whole()
    tapes.require(plan.tapes)


class PipeSource:
    def __init__(self, piped: Piped) -> None:
        self.plan = piped.plan
        self.flaws: list[Flaw] = []
        self._piped = piped

    def require(self) -> None:
        """It is there."""

    def recall(self, landing: Landing, report: Report, *, publish: bool) -> Recalled:
        return self._piped.recall(landing, report, publish=publish)


@contextmanager
def source(session: Session, given: dict[str, Any]) -> Iterator[Source]:
    """By the options of the command. Raises: as archive.places, archive.chain and archive.piped do."""
    from vsnapfs.archive.chain import chosen, plan
    from vsnapfs.archive.piped import Piped
    from vsnapfs.archive.places import How, opened
    from vsnapfs.cli.prompt import asker

    wanted = given["wanted"]
    if _comes_once(given):
        for option, name in (("--from", "places"), ("--tape", "labels"), ("--no-verify", "no_verify")):
            if given[name]:
                hint = "all of it comes from there, and is known to be right by reading it back"
                raise UsageError(f"{option} is not for what is read once, such as a pipe", hint=hint)
        reader = _reader(wanted)
        with closing(reader), closing(Piped(reader, reader.name, _identities(given))) as piped:
            yield PipeSource(piped)
        return
    file = _file(given)
    places = given["places"] if file is None else (file, *given["places"])
    in_settings = [place for place in places if os.sep not in place and not os.path.lexists(place)]
    needed = not places or in_settings or given["branch"] is not None or given["medium"] is not None
    repository = session.repository if needed else None
    with opened(places, repository, How(given["labels"], asker()), _identities(given)) as known:
        if file is None:
            archive = chosen(known.inventory, wanted, volumes=given["volumes"])
        else:
            archive = known.inventory.archive_on(known.given.uuid_at(os.path.abspath(file)), file)
        yield TapeSource(known, plan(known.inventory, archive), given)


def _comes_once(given: dict[str, Any]) -> bool:
    """``-``, or a path to something that cannot be read twice."""
    path = Path(given["wanted"])
    return given["wanted"] == PIPE or (os.sep in given["wanted"] and (path.is_fifo() or path.is_socket()))


def _file(given: dict[str, Any]) -> str | None:
    """WANTED is a file that an archive was written to: it looks like a path, as no point does, or is one and no places are given."""
    wanted: str = given["wanted"]
    if os.sep in wanted and os.path.lexists(wanted) and not os.path.isfile(wanted):
        raise UsageError(
            f"{wanted} is no file that an archive was written to", hint="POINT --from takes pools and drives"
        )
    if os.sep in wanted or ("." in wanted and not given["places"] and os.path.isfile(wanted)):
        return wanted
    return None


def _reader(wanted: str) -> PipeReader:
    from vsnapfs.media.plain import PipeReader

    try:
        if wanted == PIPE and sys.stdin is None:
            raise UsageError("standard input is closed", hint="an archive comes in there, or from a FILE")
        if wanted == PIPE and sys.stdin.isatty():
            raise UsageError("standard input is a terminal", hint="an archive comes in there, or from a FILE")
        if wanted == PIPE:
            return PipeReader(os.dup(sys.stdin.fileno()), "standard input")
        return PipeReader(os.open(wanted, os.O_RDONLY | os.O_CLOEXEC), wanted)
    except OSError as error:
        raise from_os_error(error, f"read {wanted}") from error


def _identities(given: dict[str, Any]) -> tuple[Path, ...]:
    return tuple(Path(path) for path in given["identities"])

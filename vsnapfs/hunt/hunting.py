"""A hunt from its beginning, or from where its log ends, to its result.

First this moment gets a bookmark; the good end is tested; then bookmarks, then every instant between two of them. The bad end
is tested when no bookmark was bad: else it is known to be, since good becomes bad once. Each probe is written down before it is
made and after it was tested, and nothing of it is left when the next begins.

All of it happens in trio's thread but what waits for storage or for a test.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import trio

from vsnapfs.core.errors import PermissionDeniedError, PointGoneError, UntestableError, from_os_error
from vsnapfs.core.hunt import Hunt, HuntProbe, Verdict
from vsnapfs.core.model import Point
from vsnapfs.core.times import iso
from vsnapfs.hunt import trial
from vsnapfs.hunt.ground import Ground, Place
from vsnapfs.hunt.log import Begin, Cleared, End, Entry, Log, Making, Past, Safe, Told
from vsnapfs.hunt.outcome import outcome
from vsnapfs.hunt.search import Known, Narrowed, narrowed, next_probes, probes_left

Say = Callable[[str], None]
"""Is told a line for people now and then."""

Run = Callable[[Sequence[str], Mapping[str, str], float, Path], Awaitable[trial.Trial]]
"""As trial.run."""

in_thread = trio.to_thread.run_sync

TEMPORARY = "/tmp"
"""Unless TMPDIR says another. tempfile.gettempdir tries it out with a file, which a hunt that is killed then would leave."""


class Hunting:
    """Of trio's thread. ``directory``: for what tests print; made when it is needed. ``now_ns``: what the clock says."""

    def __init__(
        self,
        past: Past,
        log: Log,
        ground: Ground,
        directory: Path,
        say: Say,
        now_ns: Callable[[], int],
        *,
        run: Run = trial.run,
    ) -> None:
        self._begin: Begin = past.begin
        self._entries: list[Entry] = list(past.entries)
        self._log = log
        self._ground = ground
        self._directory = directory
        self._say = say
        self._now_ns = now_ns
        self._run_test = run
        self._number = past.last_number

    async def run(self) -> Hunt:
        """The result, which the log has too.

        Raises: HuntAbortedError, TimedOutError: a test gave no verdict. Others of core.errors: a probe could not be made or
        removed. The log tells what is left then; cancelled, nothing is.
        """
        for spot in self._past.left:
            await self._clear(spot)
        if not self._past.is_safe:
            self._note(Safe(point=await in_thread(self._ground.make_safe, self._begin.safety_bookmark)))
            self._say(f"made the safety bookmark {self._begin.safety_bookmark}")
        await self._look_for_bookmarks()
        begin = self._begin
        await self._test_ends([begin.good_state, begin.bad_state][: begin.jobs])
        candidates = await self._search_bookmarks()
        await self._test_ends([begin.bad_state])
        if not self._begin.bookmarks_only and isinstance(self._known(), Narrowed):
            candidates = await self._search_instants()
        found = await self._result(candidates)
        self._note(End(time=iso(self._now_ns()), hunt=found))
        return found

    @property
    def _past(self) -> Past:
        return Past(self._entries, 0)

    def _note(self, entry: Entry) -> None:
        self._log.add(entry)
        self._entries.append(entry)

    async def _test_ends(self, states: Sequence[int]) -> None:
        """Those of them that are as near as can be to where good becomes bad, as far as that is known."""
        known, verdicts = self._known(), self._past.verdicts
        if isinstance(known, Narrowed) and not self._begin.trust:
            await self._probe_all([s for s in states if s in (known.good, known.bad) and s not in verdicts], "an end")

    async def _search_bookmarks(self) -> Sequence[int]:
        async def tell(_: Narrowed) -> Sequence[int]:
            await self._look_for_bookmarks()
            return sorted(set(self._past.named.states))

        return await self._search_all(tell, "bookmarks")

    async def _look_for_bookmarks(self) -> None:
        before, named = self._past.named, await in_thread(self._ground.named)
        if named != before:
            self._note(named)
        gone = {point.seqno for point in before.bookmarks} - {point.seqno for point in named.bookmarks}
        if gone:
            self._say(f"{len(gone)} bookmarks between the ends are gone meanwhile")

    async def _search_instants(self) -> Sequence[int]:
        """Between two bookmarks; of too many instants first some, then those between two of them."""

        async def tell(known: Narrowed) -> Sequence[int]:
            return await in_thread(self._ground.instants, known.good, known.bad)

        return await self._search_all(tell, "instants")

    async def _search_all(self, tell: Callable[[Narrowed], Awaitable[Sequence[int]]], what: str) -> Sequence[int]:
        """Among candidates that are told anew until none is left to be tested. What a prune takes meanwhile is none any more."""
        candidates: Sequence[int] = []
        gone: set[int | None] = set()
        while isinstance(known := self._known(), Narrowed):
            candidates = await tell(known)
            if not next_probes(candidates, known, self._past.verdicts):
                break
            try:
                await self._search(candidates, what)
            except PointGoneError as error:
                if error.seqno in gone:
                    raise
                gone.add(error.seqno)
                self._say(f"left out: {error}")
        return candidates

    async def _search(self, candidates: Sequence[int], what: str) -> None:
        jobs, past = self._begin.jobs, self._past
        while isinstance(known := self._known(), Narrowed):
            states = next_probes(candidates, known, past.verdicts, jobs)
            if not states:
                return
            more = probes_left(candidates, known, past.verdicts, jobs) - 1
            await self._probe_all(states, f"{what}, about {more} more {'probes' if jobs == 1 else 'rounds'}")
            past = self._past

    def _known(self) -> Known:
        return narrowed(self._begin.good_state, self._begin.bad_state, self._past.verdicts)

    async def _probe_all(self, states: Sequence[int], what: str) -> None:
        """Side by side. The first that fails stops the others."""
        failures: list[Exception] = []

        async def probe(state: int) -> None:
            try:
                await self._probe(state, what)
            except Exception as error:  # noqa: BLE001  raised again, by itself: a nursery would put it into a group
                failures.append(error)
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for state in states:
                nursery.start_soon(probe, state)
        if failures:
            raise failures[0]

    async def _probe(self, state: int, what: str) -> None:
        spot = self._spot(state, await self._point(state), branch=not self._begin.read_only, mounted=self._begin.mount)
        self._note(spot)
        try:
            verdict, probe = await self._tested(spot)
            self._note(Told(state=state, verdict=verdict, probe=probe))
        finally:
            await self._clear(spot)
        self._say(_line(probe, what))

    def _spot(self, state: int, point: Point, *, branch: bool, mounted: bool) -> Making:
        """A probe to be: names that no other has."""
        self._number += 1
        name = f"hunt-{self._begin.id}-{point.seqno}"
        place = Path(os.environ.get("TMPDIR") or TEMPORARY).absolute() / f"vsnapfs-{name}-{self._number}"
        return Making(
            number=self._number,
            state=state,
            point=point,
            branch=name if branch else "",
            directory=str(place) if mounted else "",
        )

    async def _point(self, state: int) -> Point:
        named = self._past.named
        known = dict(zip(reversed(named.states), reversed(named.bookmarks), strict=True))
        ends = {self._begin.good_state: self._begin.good, self._begin.bad_state: self._begin.bad}
        found = known.get(state) or ends.get(state)
        return found if found is not None else await in_thread(self._ground.point, state)

    async def _tested(self, spot: Making) -> tuple[Verdict, HuntProbe]:
        probe = HuntProbe(
            number=spot.number, point=spot.point, verdict="skip", exit_status=None, why="", seconds=0.0, output=""
        )
        try:
            place = await in_thread(self._ground.make, spot)
        except (PointGoneError, UntestableError) as error:
            if isinstance(error, PointGoneError) and spot.state not in (self._begin.good_state, self._begin.bad_state):
                raise
            return "skip", msgspec.structs.replace(probe, why=str(error))
        output = self._directory / f"{spot.number:04d}-{spot.point.seqno}.out"
        _make_own(self._directory)
        words = [word.replace("{}", str(place.argument)) for word in self._begin.test]
        ran = await self._run_test(words, environment(spot.point, place), self._begin.timeout_s, output)
        await in_thread(self._ground.check)
        verdict, exit_status, why = trial.judged(
            ran, self._begin.on_timeout, self._begin.timeout_s, shlex.quote(words[0])
        )
        seconds = round(ran.seconds, 3)
        return verdict, msgspec.structs.replace(
            probe, verdict=verdict, exit_status=exit_status, why=why, seconds=seconds, output=str(output)
        )

    async def _clear(self, spot: Making) -> None:
        """Remove what was made for it, whatever happens meanwhile."""
        with trio.CancelScope(shield=True):
            await in_thread(self._ground.clear, spot)
            self._note(Cleared(number=spot.number))

    async def _result(self, candidates: Sequence[int]) -> Hunt:
        known = self._known()
        first_bad = None
        if isinstance(known, Narrowed) and not self._begin.bookmarks_only:
            first_bad = await in_thread(self._first_point, known.bad)
        found = outcome(self._past, str(self._log.path), candidates, first_bad)
        if not self._begin.to_write or not isinstance(known, Narrowed):
            return found
        if found.state != "found":
            return msgspec.structs.replace(found, write_problem="points that could not be tested lie around it")
        return await self._with_write(found, known)

    def _first_point(self, state: int) -> Point | None:
        """None: where only bookmarks are kept, it cannot be opened."""
        try:
            return self._ground.point(state)
        except PointGoneError:
            return None

    async def _with_write(self, found: Hunt, known: Narrowed) -> Hunt:
        spot = self._spot(known.bad, found.first_bad, branch=True, mounted=True)
        self._note(spot)
        try:
            write = await in_thread(self._ground.write, known.good, known.bad, spot)
        except PointGoneError as error:
            return msgspec.structs.replace(found, write_problem=str(error))
        finally:
            await self._clear(spot)
        return msgspec.structs.replace(found, write=write)


def _make_own(directory: Path) -> None:
    """One in which nobody else can put a link to where a test's output would go. Raises: PermissionDeniedError."""
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        found = directory.lstat()
    except OSError as error:
        raise from_os_error(error, f"make {directory}") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise PermissionDeniedError(
            f"others may write to {directory}", hint="move it away, or begin with another --log"
        )


def environment(point: Point, place: Place) -> Mapping[str, str]:
    """That of the command, and what a test may want to know."""
    told = {
        "VSNAPFS_POINT": point.bookmark or f"@{point.seqno}",
        "VSNAPFS_SEQNO": str(point.seqno),
        "VSNAPFS_TIME": point.time,
        "VSNAPFS_BOOKMARK": point.bookmark or "",
        "VSNAPFS_DIR": str(place.directory),
    }
    volumes = {variable(name): str(path) for name, path in sorted(place.volumes.items(), reverse=True)}
    return dict(os.environ) | volumes | told


def variable(volume: str) -> str:
    """``VSNAPFS_VOLUME_DB0`` for ``db0``: letters in capitals, ``_`` for all that no variable can have in its name."""
    return "VSNAPFS_VOLUME_" + "".join(letter if letter.isalnum() else "_" for letter in volume.upper())


def _line(probe: HuntProbe, what: str) -> str:
    name = f" ({probe.point.bookmark})" if probe.point.bookmark else ""
    why = f", {probe.why}" if probe.why else ""
    return f"probe {probe.number}: @{probe.point.seqno}{name} is {probe.verdict}, {probe.seconds:.1f} s{why} [{what}]"

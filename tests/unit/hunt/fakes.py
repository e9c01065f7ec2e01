"""A ground without a repository: states and bookmarks in lists, places that are only noted, a test that is a function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from vsnapfs.core.errors import NotFoundError, PointGoneError, UntestableError
from vsnapfs.core.hunt import HuntWrite, Verdict
from vsnapfs.core.model import Point
from vsnapfs.core.times import iso
from vsnapfs.hunt.ground import Place
from vsnapfs.hunt.log import FORMAT, Begin, Making, Named
from vsnapfs.hunt.trial import Trial

STATUS: dict[Verdict, int] = {"good": 0, "bad": 1, "skip": 125}
THIN = 16
"""So many instants are told at once."""


def point(seqno: int, bookmark: str | None = None) -> Point:
    return Point(seqno=seqno, time=iso(seqno), time_ns=seqno, bookmark=bookmark)


class FakeGround:
    """``states``: seqnos that wrote. ``marks``: seqno by bookmark. ``gone``, ``broken``: seqnos that cannot be opened, or be shown.
    ``seen_gone``: those of which that was noticed, which are not told any more."""

    def __init__(self, states: Sequence[int], marks: Mapping[str, int], *, thin: int = THIN) -> None:
        self.states = list(states)
        self.marks = dict(marks)
        self.thin = thin
        self.gone: set[int] = set()
        self.seen_gone: set[int] = set()
        self.broken: set[int] = set()
        self.there: dict[int, Making] = {}
        self.most_there = 0
        self.safe: list[str] = []
        self.lost = False

    def state(self, seqno: int) -> int:
        return max(state for state in self.states if state <= seqno)

    def make_safe(self, name: str) -> Point:
        if name not in self.safe:
            self.safe.append(name)
        return point(max(self.states) + 100, name)

    def named(self) -> Named:
        marks = sorted((seqno, name) for name, seqno in self.marks.items() if seqno not in self.seen_gone)
        return Named(
            bookmarks=[point(seqno, name) for seqno, name in marks], states=[self.state(seqno) for seqno, _ in marks]
        )

    def instants(self, good: int, bad: int) -> Sequence[int]:
        found = [state for state in self.states if good < state < bad and state not in self.seen_gone]
        while len(found) > self.thin:
            found = found[::2]
        return found

    def point(self, state: int) -> Point:
        return point(state)

    def make(self, spot: Making) -> Place:
        self.there[spot.number] = spot
        self.most_there = max(self.most_there, len(self.there))
        if spot.point.seqno in self.gone:
            self.seen_gone.add(spot.point.seqno)
            raise PointGoneError("it is gone", seqno=spot.point.seqno)
        if spot.point.seqno in self.broken:
            raise UntestableError("it cannot be mounted")
        return Place(Path("/place/db"), Path("/place"), {"db": Path("/place/db")})

    def check(self) -> None:
        if self.lost:
            raise NotFoundError("the ground was lost")

    def clear(self, spot: Making) -> None:
        self.there.pop(spot.number, None)

    def write(self, good: int, bad: int, spot: Making) -> HuntWrite:
        self.there[spot.number] = spot
        return HuntWrite(
            seqno=bad, time=iso(bad), time_ns=bad, volume="db", offset_bytes=good, length_bytes=1, zero=False, changed_bytes=1,
            compared_bytes=1, hex_diff=[], filesystem="", files=[], files_problem="nobody looked",
        )  # fmt: skip


class FakeTest:
    """The test: ``judge`` is asked with the state of the point. ``tested``: in order."""

    def __init__(self, ground: FakeGround, judge: Callable[[int], Verdict]) -> None:
        self._ground = ground
        self._judge = judge
        self.tested: list[int] = []
        self.environments: list[Mapping[str, str]] = []
        self.words: list[Sequence[str]] = []

    async def run(self, words: Sequence[str], environment: Mapping[str, str], _: float, __: Path) -> Trial:
        state = self._ground.state(int(environment["VSNAPFS_SEQNO"]))
        self.tested.append(state)
        self.environments.append(environment)
        self.words.append(words)
        return Trial(how="ended", status=STATUS[self._judge(state)], left=0, stuck=0, error="", seconds=1.0)


def begin(ground: FakeGround, good: int, bad: int, **options: object) -> Begin:
    """One of a hunt over the volume ``db``."""
    given: dict[str, object] = {
        "format": FORMAT, "id": "0badcafe", "time": iso(0), "repository": "/repository", "uuid": "0", "good": point(good),
        "bad": point(bad), "good_state": ground.state(good), "bad_state": ground.state(bad), "volumes": {"db": 1},
        "test": ("test", "{}", "at={}"), "mount": False, "partition": None, "quota_bytes": None, "read_only": False, "timeout_s": 60.0,
        "on_timeout": "abort", "jobs": 1, "bookmarks_only": False, "to_write": False, "trust": False,
        "safety_bookmark": "before-hunt-0badcafe",
    }  # fmt: skip
    return Begin(**(given | options))  # type: ignore[arg-type]

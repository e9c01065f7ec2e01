"""A whole hunt on a ground of lists: what it tests, what it writes down, how it goes on from any moment."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from tests.unit.hunt.fakes import FakeGround, FakeTest, begin, point
from vsnapfs.core.errors import HuntAbortedError, NotFoundError, PermissionDeniedError, PointGoneError, StoreError
from vsnapfs.core.hunt import Hunt, Verdict
from vsnapfs.core.model import Point
from vsnapfs.hunt.ground import Place
from vsnapfs.hunt.hunting import Hunting, variable
from vsnapfs.hunt.log import Begin, Cleared, End, Log, Making, Past, Safe, Told, parse, read
from vsnapfs.hunt.outcome import outcome
from vsnapfs.hunt.trial import Trial

pytestmark = pytest.mark.unit

STATES = list(range(10, 4000, 3))
MARKS = {f"b{number}": seqno for number, seqno in enumerate(range(12, 4000, 61))}
GOOD, BAD = 12, 3990
FIRST_BAD_AT = 700
FIRST_BAD = STATES[FIRST_BAD_AT]


def threshold(first_bad: int) -> Callable[[int], Verdict]:
    return lambda state: "good" if state < first_bad else "bad"


def hunted(past: Past, log: Log, ground: FakeGround, test: FakeTest) -> Hunt:
    said: list[str] = []
    hunting = Hunting(past, log, ground, log.path.with_name("out"), said.append, lambda: 0, run=test.run)
    try:
        return trio.run(hunting.run)
    finally:
        log.close()


def begun(path: Path, what: Begin) -> tuple[Past, Log]:
    return Past([what], 0), Log.create(path, what)


@pytest.fixture
def ground() -> FakeGround:
    return FakeGround(STATES, MARKS)


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_hunt_ends_at_the_record_and_leaves_nothing(tmp_path: Path, ground: FakeGround, jobs: int) -> None:
    test = FakeTest(ground, threshold(FIRST_BAD))
    found = hunted(*begun(tmp_path / "log", begin(ground, GOOD, BAD, jobs=jobs, to_write=True)), ground, test)
    assert found.state == "found"
    assert (found.last_good.seqno, found.first_bad.seqno) == (STATES[699], FIRST_BAD)
    assert (found.last_good_bookmark, found.first_bad_bookmark) == ("b34", "b35")
    assert found.write is not None
    assert (found.write.seqno, found.write.offset_bytes) == (FIRST_BAD, STATES[699])
    assert len(test.tested) == len(set(test.tested)) == len(found.ends) + len(found.probes)
    assert ground.there == {}
    assert ground.most_there == jobs
    assert ground.safe == ["before-hunt-0badcafe"]
    assert outcome(read(tmp_path / "log"), str(tmp_path / "log")) == found


def test_bookmarks_alone_are_searched_if_nothing_else_was_asked_for(tmp_path: Path, ground: FakeGround) -> None:
    test = FakeTest(ground, threshold(FIRST_BAD))
    found = hunted(*begun(tmp_path / "log", begin(ground, GOOD, BAD, bookmarks_only=True)), ground, test)
    assert (found.state, found.last_good.bookmark, found.first_bad.bookmark) == ("found", "b34", "b35")
    assert len(test.tested) <= 2 + 6


def test_bookmarks_of_one_state_are_tested_once(tmp_path: Path) -> None:
    ground = FakeGround([10, 500, 900], {"a": 20, "b": 300, "c": 499, "d": 500, "e": 777, "f": 899})
    test = FakeTest(ground, threshold(500))
    found = hunted(*begun(tmp_path / "log", begin(ground, 20, 950, bookmarks_only=True)), ground, test)
    assert sorted(test.tested) == [10, 500]
    assert (found.last_good.bookmark, found.first_bad.bookmark) == ("c", "d"), "the newest good one, the oldest bad one"


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize(
    ("first_bad", "why"), [(0, "@12 was said to be good and is bad"), (9999, "@3990 was said to be bad and is good")]
)
def test_an_end_that_is_not_as_said_ends_the_hunt(
    tmp_path: Path, ground: FakeGround, first_bad: int, why: str, jobs: int
) -> None:
    """The good one at once; the bad one if there are jobs for it, else when no bookmark was bad."""
    test = FakeTest(ground, threshold(first_bad))
    found = hunted(*begun(tmp_path / "log", begin(ground, GOOD, BAD, jobs=jobs)), ground, test)
    assert (found.state, found.why) == ("contradiction", why)
    assert len(test.tested) == {1: 1 if first_bad == 0 else 2 + 6, 2: 2}[jobs]
    assert ground.there == {}


@pytest.mark.parametrize("first_bad", [1, 2, 3, 511, 512, 513, 1021, 1022, 1023])
def test_of_a_thousand_bookmarks_eleven_are_tested_the_ends_among_them(tmp_path: Path, first_bad: int) -> None:
    states = list(range(10, 10 + 1024))
    ground = FakeGround(states, {f"b{number}": state for number, state in enumerate(states)})
    test = FakeTest(ground, threshold(states[first_bad]))
    what = begin(ground, states[0], states[-1], bookmarks_only=True)
    found = hunted(*begun(tmp_path / "log", what), ground, test)
    assert (found.state, found.first_bad.bookmark) == ("found", f"b{first_bad}")
    assert len(found.ends) == (2 if first_bad == 1023 else 1)
    assert len(found.ends) + len(found.probes) <= 11


def test_an_end_that_cannot_be_shown_is_told_with_the_reason(tmp_path: Path, ground: FakeGround) -> None:
    ground.broken.add(GOOD)
    found = hunted(*begun(tmp_path / "log", begin(ground, GOOD, BAD)), ground, FakeTest(ground, threshold(FIRST_BAD)))
    assert (found.state, found.why) == (
        "contradiction", "@12 was said to be good and could not be tested: it cannot be mounted",
    )  # fmt: skip


def test_trust_leaves_the_ends_untested(tmp_path: Path, ground: FakeGround) -> None:
    test = FakeTest(ground, threshold(FIRST_BAD))
    found = hunted(*begun(tmp_path / "log", begin(ground, GOOD, BAD, trust=True)), ground, test)
    assert found.first_bad.seqno == FIRST_BAD
    assert not {ground.state(GOOD), ground.state(BAD)} & set(test.tested)


def test_a_good_point_after_a_bad_one_is_told_with_both(tmp_path: Path, ground: FakeGround) -> None:
    """Three at once see it."""
    test = FakeTest(ground, lambda state: "bad" if 900 < state < 1200 or state > 3000 else "good")
    found = hunted(*begun(tmp_path / "log", begin(ground, GOOD, BAD, jobs=3)), ground, test)
    assert found.state == "contradiction"
    bad, good = found.contradiction
    assert 900 < bad.seqno < 1300
    assert good.seqno > bad.seqno
    assert f"@{bad.seqno} is bad and the later @{good.seqno} is good" in found.why


def test_points_that_cannot_be_shown_are_skipped_and_those_that_are_gone_are_none(
    tmp_path: Path, ground: FakeGround
) -> None:
    ground.gone |= {STATES[700], STATES[701]}
    ground.broken |= {STATES[699]}
    test = FakeTest(ground, threshold(FIRST_BAD))
    found = hunted(*begun(tmp_path / "log", begin(ground, GOOD, BAD, to_write=True)), ground, test)
    assert found.state == "range"
    assert (found.last_good.seqno, found.first_bad.seqno) == (STATES[698], STATES[702])
    assert [skipped.seqno for skipped in found.skipped] == [STATES[699]]
    assert found.write is None
    assert found.write_problem != ""
    assert {probe.why for probe in found.probes if probe.verdict == "skip"} == {"it cannot be mounted"}


@pytest.mark.parametrize("jobs", [1, 3])
def test_bookmarks_that_a_prune_takes_during_a_hunt_cost_it_little(tmp_path: Path, jobs: int) -> None:
    """All but every eighth go; it is as if they had never been."""
    kept = sorted(MARKS.values())[::8]
    ground = FakeGround(STATES, MARKS)
    ground.gone |= set(MARKS.values()) - set(kept) - {GOOD}

    class Pruned(FakeTest):
        """With the first test all are seen to be gone."""

        async def run(self, *asked: Any) -> Trial:
            ground.seen_gone |= ground.gone
            return await super().run(*asked)

    begins = begin(ground, GOOD, BAD, jobs=jobs, bookmarks_only=True, trust=True)
    found = hunted(*begun(tmp_path / "log", begins), ground, Pruned(ground, threshold(FIRST_BAD)))
    assert (found.state, found.skipped) == ("found", [])
    assert found.last_good.seqno == max(seqno for seqno in kept if seqno < FIRST_BAD)
    assert found.first_bad.seqno == min(seqno for seqno in kept if seqno > FIRST_BAD)
    assert len(found.probes) <= 6


@pytest.mark.parametrize("jobs", [1, 3])
def test_an_instant_that_a_prune_takes_before_its_turn_is_left_out(tmp_path: Path, jobs: int) -> None:
    """Those that were told are looked up one by one: meanwhile some go, and the others are told anew."""

    class Pruned(FakeGround):
        def point(self, state: int) -> Point:
            if state in taken:
                self.states = [other for other in self.states if other not in taken]
                raise PointGoneError(f"@{state} is gone", seqno=state)
            return super().point(state)

    taken = set(STATES[FIRST_BAD_AT - 3 : FIRST_BAD_AT : 2])
    ground = Pruned(STATES, MARKS)
    test = FakeTest(ground, threshold(FIRST_BAD))
    found = hunted(*begun(tmp_path / "log", begin(ground, GOOD, BAD, jobs=jobs)), ground, test)
    assert (found.state, found.first_bad.seqno) == ("found", FIRST_BAD)
    assert found.last_good.seqno == STATES[FIRST_BAD_AT - 2], "the one before it was taken"
    assert ground.there == {}


def test_an_instant_that_is_told_again_and_gone_again_ends_the_hunt(tmp_path: Path) -> None:
    class Inconsistent(FakeGround):
        def point(self, state: int) -> Point:
            raise PointGoneError(f"@{state} is gone", seqno=state)

    ground = Inconsistent(STATES, MARKS)
    with pytest.raises(PointGoneError):
        hunted(*begun(tmp_path / "log", begin(ground, GOOD, BAD)), ground, FakeTest(ground, threshold(FIRST_BAD)))


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_hunt_goes_on_from_every_moment_of_its_log(tmp_path: Path, jobs: int) -> None:
    """Killed between any two lines: the same is found, no verdict is asked for again, and what was made is removed."""
    ground = FakeGround(STATES, MARKS, thin=8)
    judge = threshold(FIRST_BAD)
    whole = begin(ground, GOOD, BAD, jobs=jobs, to_write=True)
    found = hunted(*begun(tmp_path / "whole", whole), ground, FakeTest(ground, judge))
    lines = (tmp_path / "whole").read_bytes().splitlines(keepends=True)
    assert len(lines) > 20
    for length in range(1, len(lines)):
        path = tmp_path / f"{length}"
        path.write_bytes(b"".join(lines[:length]) + lines[length][: len(lines[length]) // 2])
        log, past = Log.resume(path)
        ground = FakeGround(STATES, MARKS, thin=8)
        ground.there = {spot.number: spot for spot in past.left}
        test = FakeTest(ground, judge)
        again = hunted(past, log, ground, test)
        assert not set(test.tested) & {told.state for told in parse(b"".join(lines[:length]), path).told}
        assert (again.state, again.last_good, again.first_bad, again.write) == (
            found.state,
            found.last_good,
            found.first_bad,
            found.write,
        )
        assert ground.there == {}
        numbers = [entry.number for entry in read(path).entries if isinstance(entry, Making)]
        assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize("how", ["symlink", "mode"])
def test_output_goes_to_a_directory_that_is_ours(tmp_path: Path, ground: FakeGround, how: str) -> None:
    """In /tmp somebody else may be quicker to make it."""
    (tmp_path / "another's").mkdir()
    if how == "symlink":
        (tmp_path / "out").symlink_to(tmp_path / "another's")
    else:
        (tmp_path / "out").mkdir()
        (tmp_path / "out").chmod(0o777)
    test = FakeTest(ground, threshold(FIRST_BAD))
    with pytest.raises(PermissionDeniedError, match="others may write"):
        hunted(*begun(tmp_path / "log", begin(ground, GOOD, BAD)), ground, test)
    assert (test.tested, ground.there) == ([], {})


def test_what_is_made_is_written_down_before_and_after(tmp_path: Path, ground: FakeGround) -> None:
    make, clear = ground.make, ground.clear

    def made(spot: Making) -> Place:
        assert spot in read(tmp_path / "log").left, "before it is made"
        return make(spot)

    def cleared(spot: Making) -> None:
        assert spot.state in read(tmp_path / "log").verdicts, "before it is removed"
        clear(spot)

    ground.make, ground.clear = made, cleared  # type: ignore[method-assign]
    hunted(*begun(tmp_path / "log", begin(ground, GOOD, BAD)), ground, FakeTest(ground, threshold(FIRST_BAD)))
    kinds = [type(entry) for entry in read(tmp_path / "log").entries]
    assert kinds[:2] == [Begin, Safe]
    assert kinds[-1] is End
    triples = kinds[3:-1]
    assert triples == [Making, Told, Cleared] * (len(triples) // 3)


def test_a_test_that_aborts_leaves_nothing_and_the_hunt_can_go_on(tmp_path: Path, ground: FakeGround) -> None:
    test = FakeTest(ground, threshold(FIRST_BAD))

    async def aborts(*_: object) -> Trial:
        return Trial(how="ended", status=127, left=0, stuck=0, error="")

    what = begin(ground, GOOD, BAD, jobs=2)
    log = Log.create(tmp_path / "log", what)
    hunting = Hunting(Past([what], 0), log, ground, tmp_path / "out", lambda _: None, lambda: 0, run=aborts)
    with pytest.raises(HuntAbortedError, match="ended with 127"):
        trio.run(hunting.run)
    log.close()
    assert ground.there == {}
    assert outcome(read(tmp_path / "log"), "log").state == "unfinished"
    log, past = Log.resume(tmp_path / "log")
    assert past.left == []
    assert hunted(past, log, ground, test).first_bad.seqno == FIRST_BAD


def test_where_filesystems_are_mounted_is_not_tried_out(
    tmp_path: Path, ground: FakeGround, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a file, as tempfile does: a hunt that is killed before it has deleted it leaves it for ever."""
    place = tmp_path / "place"
    monkeypatch.setenv("TMPDIR", str(place))
    monkeypatch.setattr("tempfile.tempdir", None)
    what = begin(ground, GOOD, BAD, mount=True)
    hunted(*begun(tmp_path / "log", what), ground, FakeTest(ground, threshold(FIRST_BAD)))
    made = [entry for entry in read(tmp_path / "log").entries if isinstance(entry, Making)]
    assert {Path(spot.directory).parent for spot in made} == {place}
    assert not place.exists()


def test_a_verdict_from_a_place_that_was_lost_does_not_count(tmp_path: Path, ground: FakeGround) -> None:
    ground.lost = True
    with pytest.raises(NotFoundError, match="lost"):
        hunted(*begun(tmp_path / "log", begin(ground, GOOD, BAD)), ground, FakeTest(ground, threshold(FIRST_BAD)))
    assert read(tmp_path / "log").told == []
    assert ground.there == {}


def test_what_cannot_be_removed_ends_the_hunt_and_stays_in_the_log(tmp_path: Path, ground: FakeGround) -> None:
    def stuck(_: Making) -> None:
        raise StoreError("it is in use")

    ground.clear = stuck  # type: ignore[method-assign, assignment]
    with pytest.raises(StoreError, match="in use"):
        hunted(*begun(tmp_path / "log", begin(ground, GOOD, BAD)), ground, FakeTest(ground, threshold(FIRST_BAD)))
    assert len(read(tmp_path / "log").left) == 1


def test_a_test_is_told_where_it_is(tmp_path: Path, ground: FakeGround) -> None:
    test = FakeTest(ground, threshold(FIRST_BAD))
    hunted(
        *begun(tmp_path / "log", msgspec.structs.replace(begin(ground, GOOD, BAD), good=point(GOOD, "b0"))),
        ground,
        test,
    )
    assert test.words[0] == ["test", "/place/db", "at=/place/db"]
    first = test.environments[0]
    told = {
        name: first[name]
        for name in ("VSNAPFS_POINT", "VSNAPFS_SEQNO", "VSNAPFS_TIME", "VSNAPFS_BOOKMARK", "VSNAPFS_DIR")
    }
    assert told == {
        "VSNAPFS_POINT": "b0", "VSNAPFS_SEQNO": "12", "VSNAPFS_TIME": point(12).time, "VSNAPFS_BOOKMARK": "b0", "VSNAPFS_DIR": "/place",
    }  # fmt: skip
    assert first["VSNAPFS_VOLUME_DB"] == "/place/db"
    assert test.environments[-1]["VSNAPFS_POINT"] == f"@{test.environments[-1]['VSNAPFS_SEQNO']}"
    assert variable("db-0.old") == "VSNAPFS_VOLUME_DB_0_OLD"


def test_a_defect_anywhere_among_many_bookmarks_is_found(tmp_path: Path) -> None:
    """1 024 bookmarks with 20 writes between two: at most 10 probes for the bookmark, and 5 more for the write."""
    states = list(range(1, 20 * 1024 + 1))
    marks = {f"m{number}": 20 * number + 20 for number in range(1024)}
    for seed in range(6):
        first_bad = random.Random(seed).choice(states[20:])
        ground = FakeGround(states, marks, thin=64)
        test = FakeTest(ground, threshold(first_bad))
        found = hunted(*begun(tmp_path / f"log{seed}", begin(ground, 20, 20 * 1024, trust=True)), ground, test)
        assert found.first_bad.seqno == first_bad, seed
        assert len(test.tested) <= 10 + 5, seed

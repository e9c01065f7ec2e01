"""Runs of the compaction on a journal in memory: what they leave readable, what they give back, and that the estimate said so."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.fake_compactable import FakeCompactable
from vsnapfs.binding.compact import CompactFacts, Wish
from vsnapfs.core.errors import BusyError, CorruptExtentError, NoSpaceError, StoreError
from vsnapfs.core.keeping import Compaction
from vsnapfs.core.state import Progress
from vsnapfs.repository import compaction, identity
from vsnapfs.repository.compaction_plan import (
    SPARE_BYTES,
    Kept,
    estimate,
    first_instant_seqno,
    room_bytes,
    with_moves,
)
from vsnapfs.repository.layout import Layout

VOLUMES = [1, 2]
RECORDS = 10
ROOM = 1 << 40


class Ground(SimpleNamespace):
    """As much of ``Parts`` as a run uses."""

    journal: FakeCompactable

    def volume_ids(self) -> list[int]:
        return VOLUMES

    def catch_up(self) -> None:
        """The names follow the journal."""

    def tell(self, report: Any, progress: Progress) -> None:
        if self.ending:
            raise BusyError("it is being closed")
        self.told.append((progress.done, progress.total))


def run(ground: Ground, kept: Kept | Callable[[], Kept]) -> compaction.Outcome:
    parts: Any = ground
    return compaction.run(parts, ground.journal, kept if callable(kept) else lambda: kept, None)


@pytest.fixture
def ground(path: Path) -> Iterator[Ground]:
    with closing(Layout(path)) as layout:
        yield Ground(
            journal=FakeCompactable(RECORDS),
            layout=layout,
            change=threading.RLock(),
            compaction=Compaction(),
            rewriting=None,
            ending=False,
            told=[],
        )


def write_much(ground: Ground, rng: random.Random, records: int) -> None:
    for _ in range(records):
        ground.journal.write(rng.choice(VOLUMES), rng.randrange(30))


def kept_of(points: list[int], names: dict[str, int] | None = None) -> Kept:
    return Kept(tuple(sorted(points)), names or {})


def shown(ground: Ground, points: list[int]) -> dict[tuple[int, int], dict[int, int]]:
    return {(volume, point): ground.journal.read(volume, point) for volume in VOLUMES for point in points}


def looking_at_each_step(journal: FakeCompactable, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash after any step is no worse: nothing that can be opened is less than whole."""
    for name in ("set_floor", "move_base", "compact"):
        step = getattr(journal, name)

        def looked(*arguments: Any, step: Callable[..., Any] = step) -> Any:
            done = step(*arguments)
            assert journal.wrong() == []
            return done

        monkeypatch.setattr(journal, name, looked)


@pytest.mark.parametrize("seed", range(12))
def test_roots_read_the_same_and_the_estimate_is_what_happens(
    ground: Ground, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    journal = ground.journal
    roots: list[int] = []
    for _ in range(4):
        write_much(ground, rng, rng.randrange(50, 300))
        window = journal.last_seqno - rng.randrange(40)
        known = [point for point in journal.openable() if point < window]
        roots = sorted(rng.sample(known, min(len(known), rng.randrange(1, 12))))
        kept = kept_of([*roots, window])
        plan = estimate(journal, VOLUMES, kept, ROOM)
        held = journal.facts().journal_bytes + sum(len(blocks) * 4096 for blocks in journal.base_blocks.values())
        looking_at_each_step(journal, monkeypatch)
        outcome = run(ground, kept)
        monkeypatch.undo()
        left = journal.facts().journal_bytes + sum(len(blocks) * 4096 for blocks in journal.base_blocks.values())
        assert (outcome.problems, outcome.waiting_files) == ((), 0)
        assert outcome.freed_bytes == plan.freed_bytes == held - left >= 0
        assert journal.wrong() == []
        assert {*roots, *range(window, journal.last_seqno + 1)} <= set(journal.openable())
        first_instant = first_instant_seqno(journal.segments(), journal.facts())
        assert first_instant == plan.first_instant_seqno <= window
        assert set(range(first_instant, journal.last_seqno + 1)) <= set(journal.openable())
        assert journal.did == [] or plan.groups == {} or journal.facts().first_seqno == kept.floor
        again = estimate(journal, VOLUMES, kept, ROOM)
        assert again.groups == {}, "a second run has nothing to do"
    assert any(step.startswith("move") for step in journal.did)
    assert ground.rewriting is None


def test_the_floor_is_durable_before_anything_is_touched_and_old_groups_go_first(ground: Ground) -> None:
    write_much(ground, random.Random(1), 300)
    run(ground, kept_of([120, 250]))
    kinds = [step.split()[0] for step in ground.journal.did]
    assert kinds[0] == "floor"
    assert kinds == sorted(kinds, key=["floor", "move", "compact"].index)
    ordinals = [int(step.split()[1].split("+")[0]) for step in ground.journal.did if step.startswith("compact")]
    assert ordinals == sorted(ordinals)
    assert identity.COMPACTION in (ground.layout.path / "repository.json").read_text()
    assert ground.told[-1][1] > 0


def test_where_nothing_is_worth_it_nothing_is_touched(ground: Ground) -> None:
    write_much(ground, random.Random(1), 300)
    every = kept_of(list(range(1, 290)))
    assert all(group.ordinals > 1 for group in estimate(ground.journal, VOLUMES, every, ROOM).groups)
    assert run(ground, kept_of([1])) == (0, (), 0)
    assert ground.journal.did == []
    assert identity.COMPACTION not in (ground.layout.path / "repository.json").read_text()


def test_bases_that_somebody_needs_wait_and_the_journal_keeps_what_they_lack(ground: Ground) -> None:
    write_much(ground, random.Random(2), 300)
    kept = kept_of([120, 250])
    expected = shown(ground, [120, 250, 299])
    ground.journal.busy = True
    planned = with_moves(ground.journal, kept, {})
    outcome = run(ground, kept)
    assert outcome.problems == ()
    assert outcome.freed_bytes == planned.freed_bytes > 0
    assert ground.told[-1][0] <= planned.work_bytes
    assert ground.journal.bases == {}
    assert shown(ground, [120, 250, 299]) == expected
    ground.journal.busy = False
    write_much(ground, random.Random(3), 100)
    run(ground, kept_of([250, 380]))
    assert set(ground.journal.bases.values()) == {250}


def test_what_only_bases_that_move_would_make_worth_it_is_left(ground: Ground) -> None:
    """Nothing was written twice, so the journal has no garbage as long as the bases do not take it over."""
    for block in range(75):
        ground.journal.write(1, block)
    kept = kept_of([70, 74])
    assert len(estimate(ground.journal, VOLUMES, kept, ROOM).groups) == 7
    ground.journal.busy = True
    assert run(ground, kept).freed_bytes == 0
    assert ground.journal.did == ["floor 70"]


def failing(ground: Ground, monkeypatch: pytest.MonkeyPatch, error: Exception, times: int) -> list[int]:
    """Have the first so many groups fail."""
    tried: list[int] = []
    compact = ground.journal.compact

    def fail(wish: Wish) -> CompactFacts | None:
        tried.append(wish.ordinal)
        if len(tried) <= times:
            raise error
        return compact(wish)

    monkeypatch.setattr(ground.journal, "compact", fail)
    return tried


def spread(ground: Ground) -> Kept:
    """Groups that are not joined, each with garbage."""
    write_much(ground, random.Random(4), 79)
    return kept_of([12, 75])


def test_a_damaged_group_is_told_and_the_others_go_on(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = spread(ground)
    tried = failing(ground, monkeypatch, CorruptExtentError("block 7 is damaged"), 1)
    outcome = run(ground, kept)
    assert len(tried) == len(set(tried)) > 1
    assert [("@1 " in problem, "block 7" in problem) for problem in outcome.problems] == [(True, True)]
    assert outcome.freed_bytes > 0
    assert ground.rewriting is None


def test_a_group_for_which_there_is_no_room_is_tried_again_at_the_end(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = spread(ground)
    planned = estimate(ground.journal, VOLUMES, kept, ROOM)
    tried = failing(ground, monkeypatch, NoSpaceError("full"), 1)
    outcome = run(ground, kept)
    assert tried[0] == tried[-1] == next(iter(planned.groups)).ordinal
    assert outcome == (planned.freed_bytes, (), 0)


def test_no_room_at_all_is_told(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = spread(ground)
    failing(ground, monkeypatch, NoSpaceError("full"), 1000)
    outcome = run(ground, kept)
    assert ["no room" in problem for problem in outcome.problems] == [True]


def test_a_small_file_needs_little_room(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk it may be what gives back the most."""
    kept = spread(ground)
    planned = estimate(ground.journal, VOLUMES, kept, ROOM)
    largest = max(group.bytes_after for group in planned.groups.values())
    assert 0 < largest < SPARE_BYTES
    monkeypatch.setattr(ground.layout, "free_bytes", lambda: 2 * largest)
    outcome = run(ground, kept)
    assert outcome.problems == ()
    assert outcome.freed_bytes > 0
    assert room_bytes(5 * SPARE_BYTES) == 6 * SPARE_BYTES


def test_a_store_that_fails_ends_the_run(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = spread(ground)
    tried = failing(ground, monkeypatch, StoreError("Input/output error"), 1000)
    with pytest.raises(StoreError):
        run(ground, kept)
    assert len(tried) == 1
    assert ground.rewriting is None


def test_it_gives_up_when_the_repository_is_closed(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = spread(ground)
    compact = ground.journal.compact

    def close(*arguments: Any) -> CompactFacts | None:
        ground.ending = True
        return compact(*arguments)

    monkeypatch.setattr(ground.journal, "compact", close)
    with pytest.raises(BusyError, match="being closed"):
        run(ground, kept)
    assert sum(step.startswith("compact") for step in ground.journal.did) == 1


def test_a_point_that_is_named_while_the_plan_is_made_is_heeded(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is older than the floor would have been."""
    write_much(ground, random.Random(5), 300)
    asked = 0

    def kept_now() -> Kept:
        nonlocal asked
        asked += 1
        return kept_of([200, 250] if asked == 1 else [100, 200, 250])

    expected = shown(ground, [100, 200, 250])
    run(ground, kept_now)
    assert ground.journal.floors == [100]
    assert shown(ground, [100, 200, 250]) == expected


def test_while_a_group_is_rewritten_its_points_are_known(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = spread(ground)
    compact = ground.journal.compact
    seen = []

    def look(*arguments: Any) -> CompactFacts | None:
        seen.append(ground.rewriting)
        return compact(*arguments)

    monkeypatch.setattr(ground.journal, "compact", look)
    run(ground, kept)
    assert seen == [(75, {12, 75})] * 7


def test_events_of_bookmarks_that_are_gone_leave_the_journal(ground: Ground) -> None:
    journal = ground.journal
    rng = random.Random(6)
    for number in range(30):
        write_much(ground, rng, 8)
        journal.add_bookmark(f"n{number}")
    points = {event.body: event.seqno for event in journal.events()}
    for number in range(30):
        if number % 3:
            journal.remove_bookmark(f"n{number}")
    names = {f"n{number}": list(points.values())[number] for number in range(0, 30, 3)}
    write_much(ground, rng, 50)
    kept = kept_of([*names.values(), journal.last_seqno - 5], names)
    run(ground, kept)
    assert sorted(event.seqno for event in journal.events()) == sorted(names.values())


def test_a_group_that_is_not_possible_any_more_keeps_its_events(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What added a bookmark is still there, so what removed it stays too: else the bookmark would be back."""
    journal, rng = ground.journal, random.Random(8)
    journal.add_bookmark("gone")
    write_much(ground, rng, 40)
    journal.remove_bookmark("gone")
    write_much(ground, rng, 38)
    compact = journal.compact
    monkeypatch.setattr(journal, "compact", lambda wish: None if wish.ordinal == 0 else compact(wish))
    run(ground, kept_of([30, journal.last_seqno - 4]))
    assert any(step.startswith("compact 4+") for step in journal.did)
    assert [event.kind.name for event in journal.events()] == ["BOOKMARK_ADD", "BOOKMARK_REMOVE"]

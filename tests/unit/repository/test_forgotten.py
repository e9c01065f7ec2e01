"""Which events may go: whoever folds what is left knows the same bookmarks, at each step and wherever a crash ends it."""

from __future__ import annotations

import random

import pytest

from tests.support.fake_compactable import FakeCompactable
from vsnapfs.binding.compact import Wish
from vsnapfs.catalog.index import Changes, Index
from vsnapfs.core.model import Bookmark
from vsnapfs.repository.forgotten import Forgotten


def folded(journal: FakeCompactable) -> dict[str, Bookmark]:
    index = Index()
    for event in journal.events():
        index.apply(event, journal.time_of, Changes())
    return {bookmark.name: bookmark for bookmark in index.bookmarks()}


def stays_in(standing: dict[str, Bookmark], name: str, seqno: int) -> bool:
    return name in standing and standing[name].created_seqno == seqno


def lived(rng: random.Random) -> FakeCompactable:
    """Names that come and go, are held and released, have verdicts, and come again."""
    journal = FakeCompactable(10)
    standing: dict[str, int] = {}
    for _ in range(120):
        name = f"n{rng.randrange(6)}"
        if name not in standing:
            standing[name] = journal.add_bookmark(name)
        elif rng.random() < 0.3:
            journal.hold_bookmark(name, rng.random() < 0.5)
        elif rng.random() < 0.5:
            journal.give_verdict(name, standing[name], rng.random() < 0.5)
        else:
            journal.remove_bookmark(name)
            del standing[name]
    return journal


@pytest.mark.parametrize("seed", range(30))
def test_what_is_left_tells_the_same(seed: int) -> None:
    rng = random.Random(seed)
    journal = lived(rng)
    known = folded(journal)
    standing_events = sum(1 for _ in journal.events())
    for _ in range(3):  # in any order, and with some segments left out: they are not worth it
        forgotten = Forgotten(journal.events(), lambda name, seqno: stays_in(known, name, seqno))
        for ordinal in rng.sample(range(12), 9):
            dropped = forgotten.within(ordinal * 10 + 1, ordinal * 10 + 10)
            journal.compact(Wish(ordinal, 1, [journal.last_seqno], dropped))
            forgotten.drop(dropped)
            assert folded(journal) == known, f"segment {ordinal}"
    assert sum(1 for _ in journal.events()) < standing_events


def test_a_moment_that_was_only_marked_goes() -> None:
    journal = FakeCompactable(10)
    marked = journal.mark("a")
    journal.add_bookmark("a", marked)
    forgotten = Forgotten(journal.events(), lambda name, _: name == "a")
    assert forgotten.within(1, 10) == [marked]


def test_a_verdict_stays_and_goes_with_its_bookmark() -> None:
    journal = FakeCompactable(10)
    point = journal.add_bookmark("a")
    given = journal.give_verdict("a", point, True)
    of_nobody = journal.give_verdict("b", point, True)
    assert Forgotten(journal.events(), lambda name, _: name == "a").within(1, 10) == [of_nobody]
    assert Forgotten(journal.events(), lambda _, __: False).within(1, 10) == [point, given, of_nobody]
    removed = journal.remove_bookmark("a")
    gone = Forgotten(journal.events(), lambda name, _: name == "a").within(1, 10)
    assert gone == [point, given, of_nobody, removed]


def test_oldest_first_nothing_is_left_but_what_stands() -> None:
    journal = lived(random.Random(3))
    known = folded(journal)
    forgotten = Forgotten(journal.events(), lambda name, seqno: stays_in(known, name, seqno))
    for ordinal in range(12):
        dropped = forgotten.within(ordinal * 10 + 1, ordinal * 10 + 10)
        journal.compact(Wish(ordinal, 1, [journal.last_seqno], dropped))
        forgotten.drop(dropped)
    left = list(journal.events())
    assert folded(journal) == known
    assert all(b"n" in event.body for event in left)
    created = {bookmark.created_seqno for bookmark in known.values()}
    assert {event.seqno for event in left if event.seqno in created} == created
    assert len(left) <= 120 - len(known)
    assert not any(event.kind.name == "BOOKMARK_REMOVE" for event in left)


def test_of_bookmarks_that_shall_go_the_additions_may_go_only_after_the_names_are_removed() -> None:
    """The plan asks with those that will stay: what adds the others counts as gone, what holds those that stay does not."""
    journal = FakeCompactable(10)
    for name in ("a", "b"):
        journal.add_bookmark(name)
        journal.hold_bookmark(name, True)
    forgotten = Forgotten(journal.events(), lambda name, _: name == "b")
    assert forgotten.within(1, 10) == [1, 2]
    assert forgotten.within(2, 10) == [2]


def test_a_removal_waits_for_the_addition() -> None:
    journal = FakeCompactable(10)
    added = journal.add_bookmark("a")
    journal.skip(9)
    removed = journal.remove_bookmark("a")
    forgotten = Forgotten(journal.events(), lambda *_: False)
    assert forgotten.within(11, 20) == []
    assert forgotten.within(1, 20) == [added, removed]
    assert forgotten.within(1, 10) == [added]
    forgotten.drop([added])
    assert forgotten.within(11, 20) == [removed]

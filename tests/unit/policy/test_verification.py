"""Which bookmarks a run of a verification takes."""

from __future__ import annotations

import pytest

from vsnapfs.core.model import Bookmark, Verdict
from vsnapfs.core.times import iso
from vsnapfs.policy.verification import RUN_BOOKMARKS_MAX, Verification, due

pytestmark = pytest.mark.unit


def bookmark(name: str, seqno: int, *profiles: str, created: int | None = None) -> Bookmark:
    verdicts = tuple(
        Verdict(profile=profile, good=False, time=iso(seqno), took_s=1.0, volumes=(), proved=()) for profile in profiles
    )
    created_seqno = created or seqno
    return Bookmark(
        name=name,
        seqno=seqno,
        time=iso(seqno),
        time_ns=seqno,
        consistency="crash",
        created_seqno=created_seqno,
        created=iso(created_seqno),
        created_ns=created_seqno,
        verdicts=verdicts,
    )


def names(verification: Verification, *bookmarks: Bookmark) -> list[str]:
    return [found.name for found in due("p", verification, bookmarks)]


def test_the_newest_again_and_again() -> None:
    assert names(Verification(), bookmark("a", 1), bookmark("b", 2, "p")) == ["b"]


def test_none_where_there_is_none() -> None:
    for which in ("newest", "each"):
        assert names(Verification(bookmarks=which)) == []
        assert names(Verification(bookmarks=which, names="n-*"), bookmark("a", 1)) == []


def test_of_these_names_alone() -> None:
    night = [bookmark("n-1", 1), bookmark("x", 2), bookmark("n-2", 3), bookmark("N-3", 4)]
    assert names(Verification(names="n-*"), *night) == ["n-2"]


EACH = Verification(bookmarks="each")


def test_each_begins_with_the_newest() -> None:
    assert names(EACH, bookmark("a", 1), bookmark("b", 2, "other")) == ["b"]


def test_each_that_was_made_since() -> None:
    made = [bookmark("a", 1), bookmark("b", 2, "p"), bookmark("c", 3), bookmark("d", 4, "other")]
    assert names(EACH, *made) == ["c", "d"]


def test_a_name_that_was_given_to_the_past_is_new() -> None:
    assert names(EACH, bookmark("late", 1, created=9), bookmark("b", 2, "p")) == ["late"]


def test_one_run_has_an_end() -> None:
    made = [bookmark("first", 1, "p"), *(bookmark(f"b{number}", number) for number in range(2, 200))]
    found = names(EACH, *made)
    assert found == [f"b{number}" for number in range(2, 2 + RUN_BOOKMARKS_MAX)]


def test_when() -> None:
    assert [Verification(every="1d").when, Verification(cron="0 4 * * *").when, Verification().when] == [
        "every 1d",
        "cron 0 4 * * *",
        "when asked",
    ]

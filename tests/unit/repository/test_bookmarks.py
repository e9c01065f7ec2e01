"""Bookmarks: exact, durable, held."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from tests.support.volumes import content_at, mark, put
from tests.support.waiting import eventually
from vsnapfs.binding import Journal
from vsnapfs.core.errors import BusyError, NameTakenError, NotFoundError, PointGoneError, ReadOnlyError, UsageError
from vsnapfs.core.times import iso
from vsnapfs.repository.repository import Repository

SIZE = 64 << 10


@pytest.fixture
def repository(repository: Repository) -> Repository:
    repository.volume_add("db0", size_bytes=SIZE)
    return repository


def names(repository: Repository) -> list[str]:
    return [bookmark.name for bookmark in repository.bookmarks()]


def test_a_bookmark_says_what_it_was_told(repository: Repository) -> None:
    bookmark = repository.bookmark_add(
        "a", consistency="application", application="postgres 16", note="vor dem Umzug ü"
    )
    assert repository.bookmark("a") == bookmark
    assert (bookmark.consistency, bookmark.application, bookmark.note) == (
        "application",
        "postgres 16",
        "vor dem Umzug ü",
    )
    assert bookmark.seqno == bookmark.created_seqno == repository.journal.facts().committed_seqno
    assert bookmark.time_ns == repository.journal.time_of(bookmark.seqno)
    assert bookmark.time == iso(bookmark.time_ns)
    assert not bookmark.held


def test_it_names_exactly_the_writes_before_it(repository: Repository) -> None:
    for number in range(5):
        mark(repository, "db0", number * 512, bytes([number + 1]) * 512, f"b{number}")
    for number in range(5):
        expected = b"".join(bytes([n + 1]) * 512 for n in range(number + 1))
        assert content_at(repository, "db0", f"b{number}") == expected + bytes(SIZE - len(expected))


def test_what_it_names_is_durable(repository: Repository, path: Path) -> None:
    put(repository, "db0", 0, b"x" * 512)
    repository.bookmark_add("a")
    assert not repository.journal.facts().pending
    with Repository.open(path, owner=False) as reader:
        assert content_at(reader, "db0", "a")[:512] == b"x" * 512


def test_a_past_instant(repository: Repository) -> None:
    mark(repository, "db0", 0, b"one", "one")
    put(repository, "db0", 0, b"two")
    seqno = repository.journal.facts().last_seqno
    mark(repository, "db0", 0, b"six", "six")
    past = repository.bookmark_add("two", at=f"@{seqno}")
    assert (past.seqno, past.time_ns) == (seqno, repository.journal.time_of(seqno))
    assert past.created_seqno > repository.bookmark("six").created_seqno
    assert content_at(repository, "db0", "two")[:3] == b"two"
    assert names(repository) == ["one", "two", "six"]
    alias = repository.bookmark_add("alias", at="one")
    assert alias.seqno == repository.bookmark("one").seqno
    assert names(repository) == ["one", "alias", "two", "six"]


def test_a_past_instant_outside_the_window(repository: Repository) -> None:
    for at in ("@0", "@1000000", "1999-01-01T00:00:00Z"):
        with pytest.raises(PointGoneError):
            repository.bookmark_add("a", at=at)
    with pytest.raises(NotFoundError):
        repository.bookmark_add("a", at="nothing")
    assert names(repository) == []


def test_a_name_is_taken_once(repository: Repository) -> None:
    first = mark(repository, "db0", 0, b"one", "a")
    with pytest.raises(NameTakenError) as caught:
        mark(repository, "db0", 0, b"two", "a")
    assert first.time in str(caught.value)
    assert repository.bookmark("a") == first
    repository.bookmark_remove("a", first.seqno)
    second = repository.bookmark_add("a")
    assert second.seqno > first.seqno
    with pytest.raises(NotFoundError, match=f"bookmark 'a' is of @{second.seqno}, and not of @{first.seqno}"):
        repository.bookmark_remove("a", first.seqno)
    assert repository.bookmark("a") == second


@pytest.mark.parametrize("name", ["", "latest", "2026-11-23", "@1", "-5min", "a/b", "..", "x" * 128])
def test_names_that_cannot_be(repository: Repository, name: str) -> None:
    before = repository.journal.facts().last_seqno
    with pytest.raises(UsageError):
        repository.bookmark_add(name)
    assert repository.journal.facts().last_seqno == before


@pytest.mark.parametrize("text", ["two\nlines", "\x1b[2J", "x" * 5000, "\udcff"])
def test_texts_that_cannot_be(repository: Repository, text: str) -> None:
    repository.bookmark_add("b")
    with pytest.raises(UsageError):
        repository.bookmark_add("a", note=text)
    with pytest.raises(UsageError):
        repository.bookmark_add("a", application=text)
    with pytest.raises(UsageError):
        repository.bookmark_hold("b", text)
    assert names(repository) == ["b"]


def test_a_held_bookmark_stays(repository: Repository, path: Path) -> None:
    repository.bookmark_add("a")
    held = repository.bookmark_hold("a", "audit 2026")
    assert (held.held, held.hold_note) == (True, "audit 2026")
    with pytest.raises(BusyError, match="audit 2026"):
        repository.bookmark_remove("a")
    repository.close()
    with Repository.open(path, owner=True) as again:
        with pytest.raises(BusyError):
            again.bookmark_remove("a")
        assert not again.bookmark_release("a").held
        again.bookmark_remove("a")
        assert names(again) == []
        with pytest.raises(NotFoundError):
            again.bookmark("a")


def test_a_hold_ends_when_the_journal_is_at_its_time(repository: Repository, path: Path) -> None:
    """Not when a clock is: while nothing is written nothing gets older."""
    repository.bookmark_add("a")
    until_ns = time.time_ns() + 1_000_000_000
    held = repository.bookmark_hold("a", "audit", iso(until_ns))
    assert (held.held, held.hold_until, held.hold_until_ns) == (True, iso(until_ns), until_ns)
    with pytest.raises(BusyError, match="audit"):
        repository.bookmark_remove("a")
    repository.close()
    with Repository.open(path, owner=True) as again:
        assert again.bookmark("a") == held
        eventually(lambda: time.time_ns() > until_ns, "the time has come")
        with pytest.raises(BusyError, match="audit"):
            again.bookmark_remove("a")
        again.bookmark_add("later")
        again.bookmark_remove("a")


def test_a_hold_may_be_given_another_end(repository: Repository) -> None:
    repository.bookmark_add("a")
    assert repository.bookmark_hold("a", "", "2100-01-01T00:00:00Z").hold_until == "2100-01-01T00:00:00.000000000Z"
    assert repository.bookmark_hold("a").hold_until is None
    assert repository.bookmark_hold("a", "", "2200-01-01T00:00:00Z").held
    released = repository.bookmark_release("a")
    assert (released.held, released.hold_until, released.hold_until_ns) == (False, None, None)


@pytest.mark.parametrize("until", ["2020-01-01T00:00:00Z", "2500-01-01T00:00:00Z", "tomorrow", "-5min"])
def test_a_hold_that_cannot_end_then(repository: Repository, until: str) -> None:
    repository.bookmark_add("a")
    with pytest.raises(UsageError):
        repository.bookmark_hold("a", "", until)
    assert not repository.bookmark("a").held


def test_a_name_given_to_the_past_is_younger_than_its_point(repository: Repository) -> None:
    first = repository.bookmark_add("a")
    again = repository.bookmark_add("b", at="a")
    assert (again.time, again.time_ns) == (first.time, first.time_ns)
    assert (first.created, first.created_ns) == (first.time, first.time_ns)
    assert again.created_ns == repository.journal.time_of(again.created_seqno) > first.created_ns


def test_holding_and_releasing_again_writes_nothing(repository: Repository) -> None:
    repository.bookmark_add("a")
    repository.bookmark_hold("a", "x")
    before = repository.journal.facts().last_seqno
    repository.bookmark_hold("a", "x")
    assert repository.journal.facts().last_seqno == before
    assert repository.bookmark_hold("a", "y").hold_note == "y"
    repository.bookmark_release("a")
    before = repository.journal.facts().last_seqno
    repository.bookmark_release("a")
    assert repository.journal.facts().last_seqno == before


def test_near_names_are_offered(repository: Repository) -> None:
    repository.bookmark_add("before-upgrade")
    for verb in (
        repository.bookmark,
        repository.bookmark_remove,
        repository.bookmark_hold,
        repository.bookmark_release,
        repository.resolve,
    ):
        with pytest.raises(NotFoundError) as caught:
            verb("before-upgrad")
        assert caught.value.near == ["before-upgrade"]


def test_a_reader_makes_none(repository: Repository, path: Path) -> None:
    repository.bookmark_add("a")
    with Repository.open(path, owner=False) as reader:
        for change in (reader.bookmark_add, reader.bookmark_remove, reader.bookmark_hold, reader.bookmark_release):
            with pytest.raises(ReadOnlyError):
                change("a")


def test_many_hands_at_once(repository: Repository) -> None:
    """Every name is made by exactly one of those who ask for it, and none is lost."""
    won: list[str] = []

    def ask() -> None:
        for number in range(20):
            put(repository, "db0", 0, b"x")
            try:
                won.append(repository.bookmark_add(f"b{number}").name)
            except NameTakenError:
                continue

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == sorted(f"b{number}" for number in range(20))
    seqnos = [bookmark.seqno for bookmark in repository.bookmarks()]
    assert len(seqnos) == 20
    assert seqnos == sorted(seqnos)


def test_nobody_waits_for_a_commit_to_look_something_up(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that stalls holds up whoever changes something, not those who read names."""
    repository.bookmark_add("a")
    stalled, go_on = threading.Event(), threading.Event()
    commit = Journal.commit

    def stall(self: Journal) -> None:
        stalled.set()
        assert go_on.wait(20)
        commit(self)

    monkeypatch.setattr(Journal, "commit", stall)
    thread = threading.Thread(target=repository.bookmark_add, args=("b",))
    thread.start()
    try:
        assert stalled.wait(20)
        assert names(repository) == ["a"]
        point = repository.resolve("latest")
        assert point.bookmark == "a"
        assert repository.volumes(point) == repository.volumes()
        assert repository.manifest(point)["point"]["bookmark"] == "a"
        with repository.view("db0", point) as view:
            assert view.size_bytes == SIZE
    finally:
        go_on.set()
        thread.join()
    assert names(repository) == ["a", "b"]

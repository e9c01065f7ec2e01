"""Which branches are open, and who may close them: with branches that are made up."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import cast

import pytest

from tests.support.waiting import eventually
from vsnapfs.binding.branch import Branch, BranchFacts
from vsnapfs.core.errors import NotFoundError, StoreError
from vsnapfs.repository import branch_table
from vsnapfs.repository.branch_files import BranchFile
from vsnapfs.repository.branch_table import BranchTable

pytestmark = pytest.mark.unit


class Made:
    """As an open branch. files: open ones of it."""

    def __init__(self, *, fails: bool = False) -> None:
        self.files = 0
        self.closed = 0
        self._fails = fails

    def facts(self) -> BranchFacts:
        return BranchFacts(0, 0, 0, 0, 0, self.files, 0)

    def close(self) -> None:
        self.closed += 1
        if self._fails:
            raise StoreError("it does not sync")

    @property
    def branch(self) -> Branch:
        return cast("Branch", self)


class Announcing:
    """A lock that says when somebody wants it. asked: somebody did."""

    def __init__(self, lock: threading.Lock) -> None:
        self.asked = threading.Event()
        self._lock = lock

    def __enter__(self) -> None:
        self.asked.set()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def never() -> Branch:
    raise AssertionError("it is open")


class Watched(BranchTable):
    """Keeps which branches there were each time that it said that there are others. seen: their names."""

    @property
    def generation(self) -> int:
        return self._generation

    @generation.setter
    def generation(self, value: int) -> None:
        self._generation = value
        self.seen = sorted(self.files)


def test_names_are_there_before_it_says_that_there_are_others() -> None:
    """Who saw the number before the name would not look for it again."""
    table = Watched()
    table.put(cast("BranchFile", SimpleNamespace(name="x")))
    assert table.seen == ["x"]
    table.drop("x")
    assert table.seen == []


def test_it_is_opened_once() -> None:
    table, made = BranchTable(), Made()
    for opener in (lambda: made.branch, never):
        with table.opened(1, opener) as found:
            assert found is made.branch
    table.close()
    assert made.closed == 1


def test_what_cannot_be_opened_is_tried_again() -> None:
    table, made = BranchTable(), Made()

    def fail() -> Branch:
        raise StoreError("not now")

    with pytest.raises(StoreError), table.opened(1, fail):
        pass
    with table.opened(1, lambda: made.branch):
        pass
    table.close()


def test_who_waited_for_a_removal_finds_it_removed() -> None:
    table, made = BranchTable(), Made()
    with table.opened(1, lambda: made.branch):
        pass
    caught: list[BaseException] = []

    def ask() -> None:
        try:
            with table.opened(1, never):
                pass
        except BaseException as error:  # noqa: BLE001  looked at by the test
            caught.append(error)

    with table.going(1, 0) as in_use:
        assert in_use == 0
        slot = table._slots[1]
        announcing = Announcing(slot.lock)
        slot.lock = cast("threading.Lock", announcing)
        thread = threading.Thread(target=ask)
        thread.start()
        assert announcing.asked.wait(10)
    thread.join()
    assert isinstance(caught[0], NotFoundError)
    assert made.closed == 1


def test_who_works_with_it_for_a_moment_is_waited_for() -> None:
    table, made = BranchTable(), Made()
    works, may_end = threading.Event(), threading.Event()

    def work() -> None:
        with table.opened(1, lambda: made.branch):
            works.set()
            may_end.wait(30)

    thread = threading.Thread(target=work)
    thread.start()
    assert works.wait(30)
    with pytest.raises(ValueError, match="1 in use"), table.going(1, 0) as in_use:
        raise ValueError(f"{in_use} in use")
    may_end.set()
    with table.going(1, 30) as in_use:
        assert in_use == 0
    thread.join()
    assert made.closed == 1


def test_one_that_stays_after_all_is_not_closed() -> None:
    table, made = BranchTable(), Made()
    with table.opened(1, lambda: made.branch):
        made.files = 2
        assert table.in_use(1) == 3
    with pytest.raises(ValueError, match="2 in use"), table.going(1, 0) as in_use:
        raise ValueError(f"{in_use} in use")
    with table.opened(1, never):
        assert made.closed == 0
    made.files = 0
    table.close()


def test_the_one_used_longest_ago_is_closed_unless_somebody_has_it_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(branch_table, "IDLE_MAX", 2)
    table, made = BranchTable(), [Made(fails=True) for _ in range(5)]
    made[1].files = 1
    for number, each in enumerate(made):
        with table.opened(number, lambda each=each: each.branch):  # type: ignore[misc]
            pass
    assert [each.closed for each in made] == [1, 0, 1, 0, 0]


def test_the_end_waits_for_who_works_with_one_and_closes_all(monkeypatch: pytest.MonkeyPatch) -> None:
    table, bad, good = BranchTable(), Made(fails=True), Made()
    working, done = threading.Event(), threading.Event()

    def work() -> None:
        with table.opened(2, lambda: good.branch):
            working.set()
            done.wait(10)
            assert good.closed == 0

    with table.opened(1, lambda: bad.branch):
        pass
    thread = threading.Thread(target=work)
    thread.start()
    working.wait(10)

    def end_it() -> None:
        with pytest.raises(StoreError):
            table.close()

    end = threading.Thread(target=end_it)
    end.start()
    eventually(lambda: bad.closed == 1, "the end has begun")
    done.set()
    thread.join()
    end.join()
    assert (bad.closed, good.closed) == (1, 1)

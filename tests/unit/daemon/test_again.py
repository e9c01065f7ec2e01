"""What is asked of a server whose worker dies over it, and when nobody is there to answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import msgspec
import pytest

from vsnapfs.core.errors import LockedError, NameTakenError, NotFoundError, ServerGoneError, VsnapfsError
from vsnapfs.core.state import Status
from vsnapfs.daemon import again
from vsnapfs.daemon.again import call_again, make_branch, show_closed
from vsnapfs.daemon.requests import BranchAdd, BranchShow, GetStatus
from vsnapfs.repository.lock import is_held, lock_repository
from vsnapfs.repository.repository import Repository

pytestmark = pytest.mark.unit

ADD = BranchAdd(name="b", source="@7", note="mine")


class FakeClient:
    """Gives these answers, or raises them, one after the other."""

    def __init__(self, *answers: Any, held: bool = True) -> None:
        self.answers = list(answers)
        self.held = held

    def call(self, _request: Any, _report: Any = None) -> Any:
        answer = self.answers.pop(0)
        if isinstance(answer, VsnapfsError):
            raise answer
        return answer

    def is_served(self) -> bool:
        return True

    def is_held(self) -> bool:
        return self.held


def named(note: str, seqno: int) -> Any:
    return type("Branch", (), {"note": note, "seqno": seqno})()


@pytest.fixture
def status(tmp_path: Any) -> Callable[[bool], Status]:
    Repository.create(tmp_path / "repository")
    with Repository.open(tmp_path / "repository", owner=False) as repository:
        found = repository.status()
    return lambda served: msgspec.structs.replace(found, served=served)


def test_a_status_without_a_server_is_believed_only_if_nobody_holds_the_lock(status: Callable[[bool], Status]) -> None:
    for held, served in ((True, True), (False, False)):
        client = FakeClient(status(False), status(True), held=held)
        assert call_again(cast(Any, client), GetStatus()).served == served


def test_what_fails_otherwise_is_not_asked_again() -> None:
    client = FakeClient(NotFoundError("no such branch"), "answer")
    with pytest.raises(NotFoundError):
        call_again(cast(Any, client), BranchShow(name="b"))
    assert client.answers == ["answer"]


def test_a_branch_that_has_just_been_closed_is_not_told_as_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def used(count: int) -> Any:
        return type("Branch", (), {"in_use": count})()

    client = FakeClient(used(1), used(1), used(0))
    assert show_closed(cast(Any, client), "b").in_use == 0
    monkeypatch.setattr(again, "CLOSES_S", 0.0)
    assert show_closed(cast(Any, FakeClient(used(2))), "b").in_use == 2


@pytest.mark.parametrize("death", [ServerGoneError("gone"), LockedError("between two", pid=7)])
def test_a_branch_that_a_dying_worker_has_made_is_taken(death: VsnapfsError) -> None:
    made = named("mine", 7)
    assert make_branch(cast(Any, FakeClient(death, NameTakenError("b"), made)), ADD) is made


@pytest.mark.parametrize(
    "answers",
    [
        (NameTakenError("b"), named("mine", 7)),
        (ServerGoneError("gone"), NameTakenError("b"), named("another's", 7)),
        (ServerGoneError("gone"), NameTakenError("b"), named("mine", 8)),
    ],
    ids=["at once", "another's", "of another point"],
)
def test_a_branch_of_somebody_else_is_not(answers: tuple[Any, ...]) -> None:
    with pytest.raises(NameTakenError):
        make_branch(cast(Any, FakeClient(*answers)), ADD)


def test_whether_a_lock_is_held(tmp_path: Any) -> None:
    path = tmp_path / "repository"
    assert not is_held(path)
    Repository.create(path)
    lock = lock_repository(path)
    assert is_held(path)
    lock.release()
    assert not is_held(path)

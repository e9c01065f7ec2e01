"""Which branches a replay goes onto, and what it keeps with one; with a stand-in for the server."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from vsnapfs.core.branch import Branch, BranchVolume
from vsnapfs.core.errors import (
    BusyError,
    IntegrityError,
    LockedError,
    NameTakenError,
    NotFoundError,
    ServerGoneError,
    UsageError,
)
from vsnapfs.core.model import Point
from vsnapfs.core.replay import Conflict, ReplayReport
from vsnapfs.daemon.client import Client
from vsnapfs.daemon.requests import BranchAdd, BranchReport, BranchShow
from vsnapfs.replay.branches import CONFLICTS_KEPT, find, keep, make, opened

pytestmark = pytest.mark.unit

SINCE = Point(seqno=7, time="t", time_ns=1, bookmark="monday")
DONE = {"kind": "replay", "state": "done", "began": "2026-11-26T10:00:00.000000000Z"}
BEFORE, AFTER = "2026-11-26T09:00:00.000000000Z", "2026-11-26T11:00:00.000000000Z"


def branch(name: str, **fields: Any) -> Branch:
    known: dict[str, Any] = {
        "id": 1, "source": "@7", "parent": None, "seqno": 7, "time": "t", "bookmark": None, "created": BEFORE, "quota_bytes": None,
        "used_bytes": 0, "shared_bytes": 0, "volumes": [], "in_use": 0, "note": "", "report": None, "problem": "",
    }  # fmt: skip
    return Branch(name=name, **(known | fields))


class Server:
    """Answers what a replay asks; ``asked``: all of it."""

    def __init__(self, *branches: Branch) -> None:
        self.branches = {branch.name: branch for branch in branches}
        self.asked: list[Any] = []

    def is_served(self) -> bool:
        return True

    def call(self, request: Any, _report: Any = None) -> Any:
        self.asked.append(request)
        if isinstance(request, BranchShow):
            if request.name not in self.branches:
                raise NotFoundError(f"there is no branch {request.name!r}")
            return self.branches[request.name]
        return branch(request.name)


def found(name: str, *branches: Branch) -> Branch | None:
    return find(cast("Client", Server(*branches)), name, SINCE)


def test_one_that_is_not_there_is_made() -> None:
    server = Server()
    assert find(cast("Client", server), "b", SINCE) is None
    make(cast("Client", server), "b", SINCE, 4096)
    assert server.asked[-1] == BranchAdd(name="b", source="@7", quota_bytes=4096, note="replay from monday")


def test_one_of_the_point_will_do_and_so_will_a_branch_of_it() -> None:
    for there in (branch("b"), branch("b", report={"kind": "other"}), branch("b", parent="gone")):
        assert found("b", there) == there
    assert found("b", branch("b", parent="p"), branch("p", report={"state": "done"})) is not None


@pytest.mark.parametrize(
    ("error", "said", "fields"),
    [
        (NameTakenError, "is of @8", {"seqno": 8}),
        (IntegrityError, "torn", {"problem": "torn"}),
        (BusyError, "is open", {"in_use": 1}),
        (BusyError, "has a replay that is done", {"report": DONE}),
        (BusyError, "has a replay that is unfinished", {"report": DONE | {"state": "unfinished"}}),
        (BusyError, "b has a replay that is done, of branch q", {"parent": "p"}),
    ],
)
def test_one_that_will_not_do(error: type[Exception], said: str, fields: dict[str, Any]) -> None:
    with pytest.raises(error, match=said):
        found(
            "b",
            branch("b", **fields),
            branch("p", parent="q", created=AFTER),
            branch("q", report=DONE) if "parent" in fields else branch("q"),
        )


def test_a_replay_that_came_after_a_branch_was_made_is_not_in_it() -> None:
    there = branch("b", parent="p", created=AFTER)
    assert found("b", there, branch("p", parent="q", created=BEFORE), branch("q", report=DONE)) == there


def test_parents_in_a_ring_are_asked_once() -> None:
    assert found("b", branch("b", parent="p"), branch("p", parent="b")) is not None


def test_a_name_that_is_none_is_refused_before_anybody_is_asked() -> None:
    with pytest.raises(UsageError, match="branch name"):
        found("../b")


def test_a_server_that_dies_over_a_report_is_asked_again() -> None:
    server = Server()
    answers = iter([ServerGoneError("the server ended"), LockedError("its keeper has the lock"), None])
    call = server.call

    def dying(request: Any, _report: Any = None) -> Any:
        error = next(answers)
        if error is not None:
            raise error
        return call(request)

    server.call = dying  # type: ignore[method-assign]
    keep(cast("Client", server), report(0))
    assert [type(request) for request in server.asked] == [BranchReport]


def report(conflicts: int) -> ReplayReport:
    conflict = Conflict(kept_seqno=9, skipped_seqno=8, volume="db", offset_bytes=0, length_bytes=1, kind="over")
    return ReplayReport(
        state="done", error="", began=BEFORE, branch="b", since=SINCE, until=SINCE, left_out=[], applied_records=0, applied_bytes=0,
        skipped_records=0, skipped_bytes=0, split_records=0, volumes=[], over_conflicts=conflicts, beside_conflicts=0,
        conflicts=[conflict] * conflicts, notes=[], checks=[], test=None,
    )  # fmt: skip


def test_so_many_conflicts_are_kept_with_the_branch() -> None:
    server, many = Server(), report(CONFLICTS_KEPT + 5)
    keep(cast("Client", server), many)
    kept = server.asked[-1]
    assert isinstance(kept, BranchReport)
    assert len(msgspec.json.encode(kept)) < 1 << 20
    assert msgspec.convert(kept.report, ReplayReport) == msgspec.structs.replace(
        many, conflicts=many.conflicts[:CONFLICTS_KEPT]
    )


@pytest.mark.parametrize("code", [errno.ENOENT, errno.ESTALE])
def test_one_that_is_removed_before_it_is_opened_is_not_there(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel still knew its file, and the server no more."""

    def gone(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "open", gone)
    volume = BranchVolume(name="db", id=1, size_bytes=4096)
    with pytest.raises(NotFoundError), opened(Path("/mnt"), branch("fix", volumes=[volume]), {1}):
        pass

"""Live restores whose server dies: the next one is asked for the same, and a server that is gone for good is said."""

from __future__ import annotations

from typing import Any, cast

import pytest

from vsnapfs.core.errors import BusyError, LockedError, ServerGoneError, VsnapfsError
from vsnapfs.daemon import again
from vsnapfs.daemon.requests import BranchPromote, Resolve, RestoreLive
from vsnapfs.daemon.restore import promote, restore_live

pytestmark = pytest.mark.unit


class FakeClient:
    """Fails as it is told, then answers. Knows one point, @7."""

    def __init__(self, *failures: VsnapfsError, served: bool = True) -> None:
        self.failures = list(failures)
        self.served = served
        self.asked: list[Any] = []

    def call(self, request: Any, _report: Any = None) -> Any:
        if isinstance(request, Resolve):
            return type("Point", (), {"seqno": 7})
        self.asked.append(request)
        if self.failures:
            raise self.failures.pop(0)
        return "answer"

    def is_served(self) -> bool:
        return self.served


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(again, "COMES_BACK_S_MAX", 0.01)
    monkeypatch.setattr(again, "LOOK_EVERY_S", 0.001)


def ignore(_: object) -> None:
    pass


def test_the_next_worker_is_asked_for_the_same() -> None:
    client = FakeClient(ServerGoneError("gone"), LockedError("between two"), ServerGoneError("gone"))
    assert restore_live(cast(Any, client), "-5min", "db", ignore) == cast(Any, "answer")
    assert len(client.asked) == 4
    assert set(client.asked) == {client.asked[0]}
    request = client.asked[0]
    assert isinstance(request, RestoreLive)
    assert (request.source, request.volume, request.force) == ("@7", "db", False)
    assert request.name
    assert request.name.startswith("restore-")


def test_so_is_a_promotion() -> None:
    client = FakeClient(ServerGoneError("gone"))
    promote(cast(Any, client), "fix", None, ignore)
    assert set(client.asked) == {client.asked[0]}
    assert isinstance(client.asked[0], BranchPromote)
    assert client.asked[0].before


def test_a_branch_is_named_as_it_is() -> None:
    client = FakeClient()
    restore_live(cast(Any, client), "branch:fix", "db", ignore)
    assert client.asked[0].source == "branch:fix"


def test_gone_for_good() -> None:
    client = FakeClient(ServerGoneError("the server ended"), served=False)
    with pytest.raises(ServerGoneError, match="a part may be written: do it again to complete it"):
        restore_live(cast(Any, client), "good", "db", ignore)
    assert len(client.asked) == 1


def test_what_the_next_worker_refuses_is_half_done() -> None:
    """Somebody opened the volume before it was asked on."""
    client = FakeClient(ServerGoneError("gone"), BusyError("live/db is used by fio", hint="stop that first"))
    with pytest.raises(BusyError, match="stop that first; a part may be written"):
        restore_live(cast(Any, client), "good", "db", ignore)


def test_what_is_refused_at_once_is_not() -> None:
    with pytest.raises(BusyError) as refused:
        restore_live(cast(Any, FakeClient(BusyError("live/db is used"))), "good", "db", ignore)
    assert refused.value.hint is None


def test_a_repository_that_somebody_else_has() -> None:
    client = FakeClient(LockedError("in use by process 7", pid=7), served=False)
    with pytest.raises(LockedError, match="in use by process 7"):
        restore_live(cast(Any, client), "good", "db", ignore)


def test_workers_that_all_die_over_it() -> None:
    client = FakeClient(*(ServerGoneError("gone") for _ in range(100)))
    with pytest.raises(ServerGoneError):
        restore_live(cast(Any, client), "good", "db", ignore)
    assert len(client.asked) == again.TRIES_MAX

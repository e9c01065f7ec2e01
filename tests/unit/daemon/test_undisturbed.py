"""Restores onto live volumes, and who opens them meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio

from vsnapfs.core.errors import BusyError
from vsnapfs.daemon.requests import BranchPromote, GetStatus, Request, RestoreLive
from vsnapfs.daemon.undisturbed import undisturbed
from vsnapfs.tree.nodes import LiveFile

pytestmark = pytest.mark.unit
DB, LOG = LiveFile(1), LiveFile(2)
REPOSITORY = cast(
    Any,
    SimpleNamespace(
        volume=lambda name: SimpleNamespace(id={"db": 1, "log": 2}[name]),
        branch=lambda name: SimpleNamespace(volumes=[SimpleNamespace(name="db")]),
    ),
)
RESTORE = RestoreLive(source="@1", volume="db")


class FakeMount:
    """Has some volumes open; knows what was shut when that was looked at."""

    mountpoint = Path("/nowhere")

    def __init__(self, *opened: LiveFile) -> None:
        self._opened = opened
        self.shut_now: Counter[int] = Counter()
        self.shut_then: list[set[int]] = []

    def shut(self, inos: Iterable[int]) -> None:
        self.shut_now.update(inos)

    def unshut(self, inos: Iterable[int]) -> None:
        self.shut_now.subtract(inos)

    async def open_volumes(self) -> list[tuple[int, LiveFile, None]]:
        self.shut_then.append(set(+self.shut_now))
        return [(0, node, None) for node in self._opened]


async def entered(mount: FakeMount, request: Request[Any]) -> set[int]:
    """What is shut while the block runs."""

    def enter() -> set[int]:
        with undisturbed(REPOSITORY, cast(Any, mount), request):
            return set(+mount.shut_now)

    return await trio.to_thread.run_sync(enter)


@pytest.mark.parametrize(
    ("request_", "wanted"),
    [
        (RESTORE, {DB.ino}),
        (BranchPromote(name="b"), {DB.ino}),
        (GetStatus(), set[int]()),
    ],
)
async def test_it_is_shut_while_it_is_restored(request_: Request[Any], wanted: set[int]) -> None:
    mount = FakeMount(LOG)
    assert await entered(mount, request_) == wanted
    assert not +mount.shut_now
    assert mount.shut_then == ([wanted] if wanted else [])


@pytest.mark.parametrize("request_", [RESTORE, BranchPromote(name="b")])
async def test_what_is_open_is_refused_and_not_shut_any_more(request_: Request[Any]) -> None:
    mount = FakeMount(DB)
    with pytest.raises(BusyError, match="live/db is used by"):
        await entered(mount, request_)
    assert not +mount.shut_now


async def test_who_has_it_open_keeps_it_by_force() -> None:
    mount = FakeMount(DB)
    assert await entered(mount, RestoreLive(source="@1", volume="db", force=True)) == {DB.ino}

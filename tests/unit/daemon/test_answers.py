"""What the serving process adds to a verb before it is carried out."""

from __future__ import annotations

from typing import Any, NoReturn, cast

import pytest
import trio
import trio.testing

from vsnapfs.core.errors import BusyError
from vsnapfs.daemon import api
from vsnapfs.daemon.requests import BranchPromote, BranchRemove, GetStatus, Import, Prune, Request, RestoreLive
from vsnapfs.daemon.server import Answers


@pytest.mark.parametrize(
    "request_",
    [Prune(), BranchRemove(name="x"), BranchPromote(name="x"), RestoreLive(source="a", volume="db")],
    ids=lambda request: type(request).__name__,
)
async def test_what_takes_away_waits_until_what_was_open_is_open_again(
    autojump_clock: trio.testing.MockClock, request_: Request[Any]
) -> None:
    """A worker that was killed has no leases and no open branch any more, and the next one has none yet."""
    nobody = cast(Any, None)
    answers = Answers(*[nobody] * 8)
    pruned = trio.Event()

    async def prune() -> None:
        await answers.wait(request_)
        pruned.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(prune)
        await answers.wait(GetStatus())
        await trio.sleep(1000)
        assert not pruned.is_set()
        answers.shown.set()
        await pruned.wait()


class Mounted:
    """A mount that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[bool] = []

    async def changed(self, *, content: bool) -> None:
        self.told.append(content)


async def test_what_failed_half_way_has_changed_volumes_too() -> None:
    """An import that was broken off has journalled a part: the kernel must not go on showing what it remembers."""

    def fail(*_: Any) -> NoReturn:
        raise BusyError("half of it is there")

    nobody, mount = cast(Any, None), Mounted()
    answers = Answers(nobody, cast(Any, mount), *[nobody] * 6)
    verb = api.VERBS["import"]._replace(run=fail)
    with pytest.raises(BusyError):
        await trio.to_thread.run_sync(answers, verb, Import(images={}, bookmark="b"), lambda _: None)
    assert mount.told == [True]

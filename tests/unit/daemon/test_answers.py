"""What the serving process adds to a verb before it is carried out."""

from __future__ import annotations

from typing import Any, cast

import pytest
import trio
import trio.testing

from vsnapfs.daemon.requests import BranchRemove, GetStatus, Prune, Request
from vsnapfs.daemon.server import Answers


@pytest.mark.parametrize("request_", [Prune(), BranchRemove(name="x")])
async def test_what_takes_away_waits_until_what_was_open_is_open_again(
    autojump_clock: trio.testing.MockClock, request_: Request[Any]
) -> None:
    """A worker that was killed has no leases and no open branch any more, and the next one has none yet."""
    nobody = cast(Any, None)
    answers = Answers(nobody, nobody, nobody, nobody, nobody, nobody, nobody)
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

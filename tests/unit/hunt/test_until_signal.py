"""What runs under trio ends when a signal asks for it, and whoever runs it knows."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

import pytest
import trio

from vsnapfs.hunt.signals import ASKING, run_until_signal

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def handlers_again() -> Iterator[None]:
    """As they were, whatever a test does."""
    before = {number: signal.getsignal(number) for number in ASKING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Work:
    """Sends a signal to this process, and waits for its end."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.put_away = False

    async def __call__(self) -> str:
        try:
            os.kill(os.getpid(), self.number)
            with trio.move_on_after(30):
                await trio.sleep_forever()
            return "nothing came"
        finally:
            self.put_away = True


@pytest.mark.parametrize("number", ASKING)
def test_it_is_cancelled(number: signal.Signals) -> None:
    work = Work(number)
    with pytest.raises(KeyboardInterrupt):
        run_until_signal(work)
    assert work.put_away


def test_it_is_cancelled_also_where_ctrl_c_is_ignored_and_who_listens_is_told() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    with pytest.raises(KeyboardInterrupt):
        run_until_signal(Work(signal.SIGTERM))
    assert told == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # trio closes a pipe that signals are told by
def test_whenever_it_comes_trio_is_left_whole() -> None:
    """Also while trio begins or ends: nobody else's handler raises in the middle of that."""

    within: list[bool] = []

    def end(*_: object) -> None:
        if within:
            raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    chance = random.Random(1)
    for _ in range(200):
        sending = threading.Timer(chance.uniform(0, 0.004), os.kill, (os.getpid(), signal.SIGTERM))
        with suppress(KeyboardInterrupt):
            within.append(True)
            sending.start()
            run_until_signal(partial(trio.sleep, 0.001))
            within.clear()
        sending.join()
        within.clear()
        assert trio.run(answer) == 42


async def answer() -> int:
    await trio.lowlevel.checkpoint()
    return 42


def test_what_is_ignored_stays_so() -> None:
    for number in ASKING:
        signal.signal(number, signal.SIG_IGN)

    async def work() -> str:
        for number in ASKING:
            os.kill(os.getpid(), number)
        await trio.lowlevel.checkpoint()
        return "done"

    assert run_until_signal(work) == "done"


def test_what_it_raises_is_raised_as_it_is() -> None:
    async def work() -> None:
        await trio.lowlevel.checkpoint()
        raise LookupError("nothing there")

    with pytest.raises(LookupError, match="nothing there"):
        run_until_signal(work)

"""Signals end a command as Ctrl-C does."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from vsnapfs.cli.signals import ended_as_by_hand

pytestmark = pytest.mark.unit

ASKING = (signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def handlers_again() -> Iterator[None]:
    """As they were, whatever a test does."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *ASKING)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def ended_by(number: int, put_away: list[int]) -> None:
    """A command that gets a signal, and more of them while it puts something away."""
    with ended_as_by_hand():
        try:
            os.kill(os.getpid(), number)
            raise AssertionError("it goes on")
        finally:
            for again in ASKING:
                os.kill(os.getpid(), again)
                assert callable(signal.getsignal(again)), "what is started now would ignore it"
                put_away.append(again)


@pytest.mark.parametrize("ignored", [False, True], ids=["", "as a background job"])
@pytest.mark.parametrize("number", ASKING)
def test_it_is_ctrl_c_and_a_second_one_changes_nothing(number: signal.Signals, ignored: bool) -> None:
    if ignored:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    put_away: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        ended_by(number, put_away)
    assert put_away == [*ASKING]
    os.kill(os.getpid(), number)  # the process is not at its end yet


def test_afterwards_all_is_as_it_was() -> None:
    before = [signal.getsignal(number) for number in ASKING]
    with ended_as_by_hand():
        assert [signal.getsignal(number) for number in ASKING] != before
    assert [signal.getsignal(number) for number in ASKING] == before


def test_what_was_ignored_stays_so() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with ended_as_by_hand():
        os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN

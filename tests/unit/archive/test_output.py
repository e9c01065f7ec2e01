"""What writes, without a clock: when it begins, when it fills again, what it does with errors."""

from __future__ import annotations

import threading

import pytest

from tests.support.waiting import eventually
from vsnapfs.archive import output
from vsnapfs.archive.feed import Block, kept
from vsnapfs.archive.output import Output, Pace
from vsnapfs.core.errors import StoreError

pytestmark = pytest.mark.unit


class Target:
    """What was written; writes wait for ``gate``."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None

    def write(self, block: memoryview) -> None:
        assert self.gate.wait(30)
        if self.error is not None:
            raise self.error
        self.content += block


def test_what_is_put_is_written_in_order_and_freed() -> None:
    target, freed = Target(), list[int]()
    writing = Output(target, Pace(None), buffer_bytes=50)
    for number in range(100):
        writing.put(Block(memoryview(bytes([number]) * 7), lambda number=number: freed.append(number)))  # type: ignore[misc]
    writing.end()
    assert target.content == b"".join(bytes([number]) * 7 for number in range(100))
    assert freed == list(range(100))
    assert (writing.written_bytes, writing.underruns) == (700, 0)


def test_a_drive_gets_nothing_before_the_buffer_is_full_and_again_after_an_underrun() -> None:
    target = Target()
    writing = Output(target, Pace(None), buffer_bytes=100, fill_bytes=100)
    for round_number in (1, 2):
        for _ in range(9):
            writing.put(kept(bytes(10)))
        assert len(target.content) == 100 * (round_number - 1)
        writing.put(kept(bytes(10)))
        eventually(lambda wanted=100 * round_number: len(target.content) == wanted, "the buffer to be written")  # type: ignore[misc]
        eventually(lambda wanted=round_number: writing.underruns == wanted, "the underrun to be noticed")  # type: ignore[misc]
    writing.put(kept(bytes(10)))
    writing.end()  # what is less than a buffer is written at the end
    assert len(target.content) == 210


def put_ten(writing: Output) -> None:
    for _ in range(10):
        writing.put(kept(bytes(10)))


def test_it_takes_no_more_than_its_buffer() -> None:
    target = Target()
    target.gate.clear()
    writing = Output(target, Pace(None), buffer_bytes=20)
    putting = threading.Thread(target=put_ten, args=(writing,))
    putting.start()
    putting.join(0.2)
    assert putting.is_alive()
    target.gate.set()
    putting.join(30)
    writing.end()
    assert len(target.content) == 100


@pytest.mark.parametrize("fill_bytes", [0, 10])
def test_an_error_reaches_who_puts_or_ends(fill_bytes: int) -> None:
    for at_the_end in (False, True):
        target = Target()
        target.error = StoreError("the drive is off")
        writing = Output(target, Pace(None), buffer_bytes=10, fill_bytes=fill_bytes)
        writing.put(kept(bytes(10)))
        with pytest.raises(StoreError, match="the drive is off"):
            writing.end() if at_the_end else put_ten(writing)
        writing.abandon()


def test_what_is_abandoned_is_not_written() -> None:
    target = Target()
    writing = Output(target, Pace(None), buffer_bytes=100, fill_bytes=100)
    writing.put(kept(bytes(10)))
    writing.abandon()
    writing.abandon()
    assert target.content == b""


class Clock:
    """Of the module ``time``; whoever waits moves it on."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def wait(self, timeout: float) -> bool:
        self.now += timeout
        return False


def test_a_rate_is_kept_and_a_pause_is_not_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(output, "time", clock)
    pace = Pace(1000)
    for _ in range(50):
        pace.wait(100, clock)  # type: ignore[arg-type]
    assert clock.now == pytest.approx(105)
    clock.now += 60
    for _ in range(50):
        pace.wait(100, clock)  # type: ignore[arg-type]
    assert clock.now == pytest.approx(165 + 4)
    Pace(None).wait(1 << 40, clock)  # type: ignore[arg-type]
    assert clock.now == pytest.approx(169)

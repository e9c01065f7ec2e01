"""Reading ahead gives the same as reading, and ends when nobody reads any more."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from vsnapfs.archive.ahead import ITEMS, ahead

pytestmark = pytest.mark.unit


def test_the_same_items_and_the_same_error() -> None:
    def items() -> Iterator[int]:
        yield from range(100)
        raise ValueError("the hundredth")

    found: list[int] = []
    with pytest.raises(ValueError, match="the hundredth"):
        found.extend(ahead(items()))
    assert found == list(range(100))
    assert list(ahead([])) == []


def test_given_up_half_way_it_ends_and_closes_what_it_read() -> None:
    closed: list[int] = []

    def items() -> Iterator[int]:
        try:
            yield from range(100)
        finally:
            closed.append(threading.get_ident())

    with closing(ahead(items())) as found:
        assert next(found) == 0
    assert len(closed) == 1
    assert "archive-ahead" not in {thread.name for thread in threading.enumerate()}


def test_so_many_are_read_before_they_are_asked_for_and_no_more() -> None:
    taken: list[int] = []
    full = threading.Event()

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            if number == ITEMS:
                full.set()
            yield number

    with closing(ahead(items())) as found:
        next(found)
        assert full.wait(60)
        next(found)
    assert len(taken) <= ITEMS + 4


def test_an_item_that_never_comes_is_given_up() -> None:
    given_up = threading.Event()

    def items() -> Iterator[int]:
        yield 0
        given_up.wait(5)

    with closing(ahead(items(), given_up.set)) as found:
        assert next(found) == 0
    assert given_up.is_set()

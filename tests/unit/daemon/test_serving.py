"""What is left of an exception group when it reaches the command."""

from __future__ import annotations

import pytest
import trio

from vsnapfs.core.errors import BusyError, LockedError
from vsnapfs.daemon.serving import errors_unwrapped

pytestmark = pytest.mark.unit


async def fail(error: BaseException) -> None:
    async with trio.open_nursery(), trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        raise error


@pytest.mark.parametrize("error", [LockedError("held", pid=7), BusyError("busy"), KeyboardInterrupt()])
def test_an_error_of_ours_comes_out_of_its_groups(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, errors_unwrapped():
        trio.run(fail, error)
    assert caught.value is error


def test_a_defect_stays_as_it_is() -> None:
    with pytest.raises(ExceptionGroup), errors_unwrapped():
        trio.run(fail, ZeroDivisionError())

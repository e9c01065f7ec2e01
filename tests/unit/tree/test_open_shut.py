"""Opening what is being restored: for reading, not for writing."""

from __future__ import annotations

import errno
import os
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pyfuse3
import pytest

from vsnapfs.tree.fuse.operations import Operations
from vsnapfs.tree.nodes import LiveFile

pytestmark = pytest.mark.unit
NODE = LiveFile(7)
HANDLE = 70


class FakePlane:
    """Where files are open. shuts: what becomes shut as a file is opened."""

    def __init__(self) -> None:
        self.open: list[int] = []
        self.shut: Counter[int] = Counter()
        self.shuts: list[int] = []

    def add_file(self, _file: object, ino: int) -> int:
        self.open.append(ino)
        self.shut.update(self.shuts)
        return HANDLE

    def remove_file(self, handle: int) -> None:
        assert handle == HANDLE
        self.open.pop()


def operations_on(plane: FakePlane) -> Operations:
    tree = SimpleNamespace(node=lambda _: NODE, writable_file=lambda _: object())
    return Operations(cast(Any, tree), cast(Any, plane), cast(Any, None), Path(), (0, 0), plane.shut)


async def test_only_for_reading() -> None:
    plane = FakePlane()
    operations = operations_on(plane)
    plane.shut[NODE.ino] = 1
    for flags in (os.O_RDWR, os.O_WRONLY | os.O_DIRECT):
        with pytest.raises(pyfuse3.FUSEError) as refused:
            await operations.open(NODE.ino, flags, None)
        assert refused.value.errno == errno.EBUSY
    assert plane.open == []
    assert (await operations.open(NODE.ino, os.O_RDONLY, None)).fh == HANDLE
    plane.shut[NODE.ino] = 0
    assert (await operations.open(NODE.ino, os.O_RDWR, None)).fh == HANDLE


async def test_what_is_shut_while_it_is_opened() -> None:
    """The restore looks at what is open after it has shut it, and may have been too early to see this one."""
    plane = FakePlane()
    plane.shuts = [NODE.ino]
    with pytest.raises(pyfuse3.FUSEError):
        await operations_on(plane).open(NODE.ino, os.O_RDWR, None)
    assert plane.open == []

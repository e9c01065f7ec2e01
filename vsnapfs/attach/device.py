"""The device of a volume's filesystem, without a mount: for what checks it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from vsnapfs.attach.content import look
from vsnapfs.attach.loop import loop


class Device(NamedTuple):
    """path: of the loop device. filesystem: as blkid calls it; "": none that is known."""

    path: str
    filesystem: str


@contextmanager
def device_of(source_file: Path, *, writable: bool = False, partition: int | None = None) -> Iterator[Device]:
    """A loop device on a volume's file, or on a partition of it; gone with the block, also if the process is killed.

    Raises: what ``look`` and ``loop`` raise.
    """
    source = Path(os.path.realpath(source_file))
    content = look(source, partition)
    place = {"offset_bytes": content.offset_bytes, "length_bytes": content.length_bytes}
    with loop(source, writable=writable, **place) as made:
        yield Device(made.path, content.kind)

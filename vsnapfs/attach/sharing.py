"""One image is not mounted twice if anybody writes to it: each kernel filesystem would take the disk for its own.

Whoever attaches writes its record first and looks then, so of two at once at least one sees the other.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from vsnapfs.attach.loop import backing_file
from vsnapfs.attach.model import Attached
from vsnapfs.attach.records import all_records
from vsnapfs.core.errors import BusyError

GOES_S = 2.0
"""So long a device of ours may be there after its mount."""
TRY_EVERY_S = 0.05


def check_alone(own: Attached) -> None:
    """Raises: BusyError: who has the image, if one of the two writes to it."""
    others = [other for record in all_records() if _same(other := record.attached, own)]
    for other in others:
        if (own.writable or other.writable) and _overlap(own, other):
            how = "for writing" if other.writable else "read-only"
            raise BusyError(
                f"{own.what or own.source} is attached {how} on {other.directory} already",
                hint=f"use that, or vsnapfs detach {other.directory}",
            )
    strangers = _strangers(own, {other.device for other in others}) if own.writable else []
    if strangers:
        raise BusyError(
            f"{own.what or own.source} is in use by {', '.join(strangers)}", hint="end that: losetup --detach"
        )


def _strangers(own: Attached, known: set[str]) -> list[str]:
    """Other devices on the image. One that nobody needs any more goes when the last who looks at it, such as udev, closes it."""
    end = time.monotonic() + GOES_S
    while True:
        found = [device for device in _devices_on(own.source) if device not in known]
        if not found or time.monotonic() > end:
            return found
        time.sleep(TRY_EVERY_S)


def _same(other: Attached, own: Attached) -> bool:
    return other.source == own.source and other.directory != own.directory


def _overlap(own: Attached, other: Attached) -> bool:
    return own.partition == other.partition or None in (own.partition, other.partition)


def _devices_on(source: str) -> Iterator[str]:
    for directory in sorted(Path("/sys/block").glob("loop*")):
        if backing_file(directory.name) == source:
            yield f"/dev/{directory.name}"

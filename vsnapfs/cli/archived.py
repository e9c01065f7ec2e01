"""What people are told of archives that were made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from vsnapfs.core.units import format_size

if TYPE_CHECKING:
    from vsnapfs.archive.archiving import Archived

UUID_SHOWN = 8


def archived_lines(made: Iterable[Archived]) -> Iterator[str]:
    for each in made:
        entry = each.archive
        what = f"{entry.kind} archive {entry.uuid[:UUID_SHOWN]} of {entry.point.bookmark or f'@{entry.point.seqno}'}"
        verified = ", verified" if each.verified else ""
        yield f"{what}: {format_size(entry.stored_bytes)} on {' '.join(each.tapes)}{verified}"

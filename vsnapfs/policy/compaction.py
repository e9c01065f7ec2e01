"""Which files of a journal are worth rewriting: facts in, groups out.

Files stand for ordinals: a segment for one, a compacted segment for 8, 64, 512 … neighbours, the first a multiple of their
number. Only such a group can be put into one file. It is worth it where that gives back a good part of a file, or where
small files become one, so that there never are many of them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import NamedTuple

FANOUT = 8
GARBAGE_PERCENT = 5
"""So much of a file's bytes has to be of no use before it is rewritten by itself."""
JOINED_BYTES_MAX = 1 << 30
"""Files are not joined to a greater one. So much is free for a while when one is written."""


class File(NamedTuple):
    """A file of the journal that lies before the protection window."""

    ordinal: int
    ordinals: int
    bytes_before: int
    bytes_after: int | None
    """If it was rewritten alone; None: it cannot be."""


class Group(NamedTuple):
    """What becomes one file."""

    ordinal: int
    ordinals: int


def worth_rewriting(files: Sequence[File]) -> list[Group]:
    """files: all of them, without a hole between them, from ordinal 0 on. In the order of ordinals."""
    if not files:
        return []
    end = files[-1].ordinal + files[-1].ordinals
    ordinals = 1
    while ordinals < end:
        ordinals *= FANOUT
    return list(_in_group(files, Group(0, ordinals), end))


def _in_group(files: Sequence[File], group: Group, end: int) -> Iterator[Group]:
    """The largest that are worth it."""
    members = files[_index(files, group.ordinal) : _index(files, group.ordinal + group.ordinals)]
    if not members:
        return
    if len(members) == 1 and members[0].ordinals == group.ordinals:
        if _is_garbage(members[0]):
            yield group
    elif group.ordinal + group.ordinals <= end and _can_be_joined(members):
        yield group
    else:
        part = group.ordinals // FANOUT
        for ordinal in range(group.ordinal, min(end, group.ordinal + group.ordinals), part):
            yield from _in_group(members, Group(ordinal, part), end)


def _index(files: Sequence[File], ordinal: int) -> int:
    return bisect_left(files, ordinal, key=lambda file: file.ordinal)


def _is_garbage(file: File) -> bool:
    if file.bytes_after is None:
        return False
    return (file.bytes_before - file.bytes_after) * 100 >= GARBAGE_PERCENT * file.bytes_before


def _can_be_joined(files: Sequence[File]) -> bool:
    after = [file.bytes_after for file in files if file.bytes_after is not None]
    return len(after) == len(files) and sum(after) <= JOINED_BYTES_MAX

"""Inode numbers: made of facts, so that they are the same after a restart and in every mount of a repository.

A number is ``kind << 59 | value``; bit 63 stays clear, for tools that read numbers as signed.

| kind | node | value | found again from the number |
|---|---|---|---|
| 0 | root, snaps, at, diff, live, latest, branches | 1 (the kernel's root), 2, 3, 4, 5, 6, 7 | always |
| 1 | volume in snaps/ or at/ | seqno of its last write | yes, while some point can be opened at that seqno |
| 2 | snaps/BOOKMARK | seqno of the record that made the bookmark | while the bookmark is there |
| 3 | snaps/BOOKMARK/MANIFEST.json | the same | the same |
| 4 | at/BOOKMARK | the same | the same |
| 5 | at/BOOKMARK/MANIFEST.json | the same | the same |
| 6 | at/POINT, any other form | seqno of the point | while the point can be opened |
| 7 | at/POINT/MANIFEST.json | the same | the same |
| 8 | live/VOLUME | id of the volume | while the volume has a primary |
| 9 | diff/A..B | 59 bits of a hash of both names and seqnos | no |
| 10 | diff/A..B/VOLUME.json | the same, and the volume's id | no |
| 11 | branches/BRANCH | id of the branch | while the branch is there |
| 12 | branches/BRANCH/MANIFEST.json | the same | the same |
| 13 | branches/BRANCH/VOLUME | id of the branch << 27, and id of the volume | the same |

A record belongs to one volume, so the seqno of a volume's last write (of the record that added it, if it was never
written) names both the volume and its content: the same content under many bookmarks is one inode, one page cache,
one hard link to ``tar``. A bookmark that is removed and made again is a new record and so a new directory. What
cannot be found again gets ESTALE, on which the kernel looks the path up anew.

Two names in at/ that mean one seqno are one directory to the kernel; it moves its entry from name to name, which is
harmless.
"""

from __future__ import annotations

import hashlib
from enum import IntEnum

ROOT = 1
SNAPS = 2
AT = 3
DIFF = 4
LIVE = 5
LATEST = 6
BRANCHES = 7

VALUE_BITS = 59
VALUE_MAX = (1 << VALUE_BITS) - 1
VOLUME_BITS = 27
"""Of the value of a branch's volume."""


class Kind(IntEnum):
    """Bits 59 to 62 of an inode number."""

    FIXED = 0
    VIEW = 1
    SNAP = 2
    SNAP_MANIFEST = 3
    AT_BOOKMARK = 4
    AT_BOOKMARK_MANIFEST = 5
    AT_POINT = 6
    AT_POINT_MANIFEST = 7
    LIVE_VOLUME = 8
    DIFF_PAIR = 9
    DIFF_FILE = 10
    BRANCH = 11
    BRANCH_MANIFEST = 12
    BRANCH_VOLUME = 13


MANIFEST_OF = {
    Kind.SNAP: Kind.SNAP_MANIFEST,
    Kind.AT_BOOKMARK: Kind.AT_BOOKMARK_MANIFEST,
    Kind.AT_POINT: Kind.AT_POINT_MANIFEST,
}
"""A directory's kind, and that of the manifest in it."""

DIRECTORY_OF = {manifest: directory for directory, manifest in MANIFEST_OF.items()}


def number(kind: Kind, value: int) -> int:
    """The inode number of a node. value: 0 .. VALUE_MAX (at a million writes a second that lasts 18 000 years)."""
    if not 0 <= value <= VALUE_MAX:
        raise ValueError(f"{value} does not fit an inode number")
    return kind << VALUE_BITS | value


def split(ino: int) -> tuple[Kind, int]:
    """The kind and value of an inode number. Raises: ValueError: no node can have it."""
    return Kind(ino >> VALUE_BITS), ino & VALUE_MAX


def branch_volume(branch: int, volume: int) -> int:
    """The inode number of a branch's volume."""
    if volume >> VOLUME_BITS:
        raise ValueError(f"volume {volume} does not fit an inode number")
    return number(Kind.BRANCH_VOLUME, branch << VOLUME_BITS | volume)


def branch_and_volume(value: int) -> tuple[int, int]:
    """What the value of a branch's volume is made of."""
    return value >> VOLUME_BITS, value & ((1 << VOLUME_BITS) - 1)


def digest(*facts: str | int) -> int:
    """A value for nodes that have more facts than bits: 59 bits of BLAKE2b over them."""
    text = "\0".join(str(fact) for fact in facts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) & VALUE_MAX

"""What giving space back comes to: figures of a base that moves, and of a group of segments that is rewritten.

Source: native/include/base_move.h; native/include/compact.h.
"""

from __future__ import annotations

from typing import NamedTuple


class BaseMoveFacts(NamedTuple):
    """Bytes of image and index together, without holes; of those, what goes into either."""

    bytes_before: int
    bytes_after: int
    copied_bytes: int
    patched_bytes: int


class CompactFacts(NamedTuple):
    """A group of segments, and the one that takes its place."""

    segments: int
    bytes_before: int
    bytes_after: int
    payload_blocks: int
    records_before: int
    records_after: int

"""How long a piece may be for what is left of a tape: so a tape is filled, and nothing is written twice that could have been foreseen."""

from __future__ import annotations

from vsnapfs.archive.coding import Coding
from vsnapfs.archive.index import CHUNK_BYTES
from vsnapfs.archive.stream import VolumeMap
from vsnapfs.media.tape import Tape

CRC_TEXT_BYTES = 6
"""Of each chunk in an index: four in base64, rounded up."""
RUN_TEXT_BYTES = 22
"""Of each run in a map there."""
INDEX_BYTES = 16 << 10
"""Of an index without those, generously."""
VOLUME_BYTES = 1 << 10
"""Of each volume in it."""
CODING_BYTES = 64 << 10
CODING_SHARE = 256
"""So much longer, and one in so many bytes, may be what cannot be compressed, and what is encrypted."""
SLIVER = 64
"""Less than one in so many bytes of a tape is not begun on."""


def piece_room(tape: Tape, coding: Coding, maps: dict[str, VolumeMap]) -> int | None:
    """Bytes of a piece that surely go on the tape with its index; None: nobody knows, the tape will say. 0 and less: none.

    0: also what is left of a tape that holds something already, and is not worth a piece.
    """
    if tape.capacity_bytes is None or tape.used_bytes is None:
        return None
    runs = sum(len(each.data) + len(each.zeros) for each in maps.values())
    room = tape.capacity_bytes - tape.used_bytes - INDEX_BYTES - len(maps) * VOLUME_BYTES - runs * RUN_TEXT_BYTES
    room = room * CHUNK_BYTES // (CHUNK_BYTES + CRC_TEXT_BYTES)
    if coding != Coding():
        room = room * CODING_SHARE // (CODING_SHARE + 1) - CODING_BYTES
    return 0 if room < tape.capacity_bytes // SLIVER else room

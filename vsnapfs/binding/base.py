"""Making a base image's index.

Source: native/include/base.h.
"""

from __future__ import annotations

from typing import Any

from vsnapfs.binding._native import ffi, lib
from vsnapfs.binding.closing import Closing
from vsnapfs.binding.faults import check
from vsnapfs.binding.store import Store


class BaseBuilder(Closing):
    """Takes an image in piece by piece; see base.h for what each descriptor is for. ``image`` -1: it is in place already."""

    def __init__(
        self, store: Store, uuid: bytes, volume: int, size_bytes: int, *, source: int, image: int, index: int
    ) -> None:
        out = ffi.new("vs_base_builder **")
        check(
            lib.vs_base_builder_new(store.c, uuid, volume, size_bytes, source, image, index, out), "begin a base image"
        )
        self._c: Any = out[0]

    def take(self, offset_bytes: int, length_bytes: int, has_data: bool) -> None:
        """Take in the next piece, in order; ``has_data`` False: it is known to be a hole."""
        check(lib.vs_base_builder_take(self._c, offset_bytes, length_bytes, has_data), "read the base image")

    def finish(self) -> int:
        """Write and sync the index (and the image, if it was copied). Returns the bytes that hold data."""
        out = ffi.new("uint64_t *")
        check(lib.vs_base_builder_finish(self._c, out), "write the base image's index")
        return int(out[0])

    def digest(self) -> bytes:
        """SHA-256 of what was taken in: of each block that is not zeros, its offset (u64) and its 4096 bytes."""
        out = ffi.new("uint8_t[32]")
        check(lib.vs_base_builder_digest(self._c, out), "digest the base image")
        return bytes(ffi.buffer(out))

    def close(self) -> None:
        """Free it; what was not finished is worthless. Twice is allowed."""
        if self._c is not None:
            lib.vs_base_builder_free(self._c)
            self._c = None

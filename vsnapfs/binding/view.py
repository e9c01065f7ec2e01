"""Volumes at a point.

Source: native/include/view.h.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import Any, NamedTuple

from vsnapfs.binding._native import ffi, lib
from vsnapfs.binding.closing import Closing
from vsnapfs.binding.faults import check

RUNS_PER_CALL = 1024


class RunKind(IntEnum):
    """What a run is; HOLE and ZERO both read as zeros."""

    HOLE = lib.VS_RUN_HOLE
    ZERO = lib.VS_RUN_ZERO
    DATA = lib.VS_RUN_DATA


class Run(NamedTuple):
    """A run of bytes of a volume. ``segment`` and ``block`` say where DATA lies (segment 0: the base image)."""

    offset_bytes: int
    length_bytes: int
    kind: RunKind
    segment: int
    block: int


class VolumeState(NamedTuple):
    """A volume at a seqno. ``data_bytes`` is only meant when it comes from ``View.stat``."""

    id: int
    removed: bool
    size_bytes: int
    added_seqno: int
    last_write_seqno: int
    last_write_ns: int
    data_bytes: int


def state_from(c: Any) -> VolumeState:
    """A VolumeState from a ``vs_volume_state *``."""
    return VolumeState(
        c.id, bool(c.removed), c.size_bytes, c.added_seqno, c.last_write_seqno, c.last_write_ns, c.data_bytes
    )


class VolumeFile:
    """An open file for the data plane. Ownership goes to ``Plane.add_file``; until then ``take`` has not been called."""

    def __init__(self, c: Any) -> None:
        self._c: Any = c

    def take(self) -> Any:
        """Hand the C object over, once."""
        c, self._c = self._c, None
        if c is None:
            raise ValueError("the volume file was handed over already")
        return c


class View(Closing):
    """One volume, read-only, at one point, or what changed of it between two. Immutable; any thread may read."""

    def __init__(self, c: Any) -> None:
        self._c: Any = c

    @property
    def c(self) -> Any:
        """The C object, for other modules of this package."""
        return self._c

    @property
    def size_bytes(self) -> int:
        """Size of the volume at the view's point."""
        return int(lib.vs_view_size(self._c))

    @property
    def layers(self) -> int:
        """How many maps a lookup may touch."""
        return int(lib.vs_view_layers(self._c))

    def readinto(self, offset_bytes: int, buf: bytearray | memoryview) -> int:
        """Fill a writable buffer from offset_bytes on. Returns the bytes filled, short only at the end of the volume.

        Raises: CorruptExtentError: a block does not match its checksum; carries segment and offset in it.
        """
        # Let go of at once: an error keeps this frame, and a collection of a memoryview that is still lent crashes.
        with ffi.from_buffer("uint8_t[]", buf, require_writable=True) as target:
            return check(lib.vs_view_read(self._c, offset_bytes, target, len(target)), "read the volume")

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        """``length_bytes`` from offset_bytes on, or what is left of the volume. Raises: as ``readinto``."""
        buf = bytearray(max(0, min(length_bytes, self.size_bytes - offset_bytes)))
        return bytes(memoryview(buf)[: self.readinto(offset_bytes, buf)]) if buf else b""

    def runs(self, offset_bytes: int = 0, *, keep_zeros: bool = False) -> Iterator[Run]:
        """The runs that cover [offset_bytes, size), neighbours of one kind joined.

        keep_zeros: tell known zeros from holes; otherwise both are HOLE. In a view of changes a HOLE is unchanged.
        """
        runs = ffi.new("vs_run[]", RUNS_PER_CALL)
        at = ffi.new("uint64_t *", offset_bytes)
        while at[0] < self.size_bytes:
            n = check(lib.vs_view_runs(self._c, at[0], keep_zeros, runs, RUNS_PER_CALL, at), "walk the volume's maps")
            for r in runs[0:n]:
                yield Run(r.offset_bytes, r.length_bytes, RunKind(r.kind), r.segment, r.block)

    def places(self, offset_bytes: int = 0) -> Iterator[Run]:
        """All runs from an offset on, apart where they lie apart: ``segment`` and ``block`` are those of the whole run."""
        run, at = ffi.new("vs_run *"), offset_bytes
        while check(lib.vs_view_run(self._c, at, run), "walk the volume's maps"):
            yield Run(run.offset_bytes, run.length_bytes, RunKind(run.kind), run.segment, run.block)
            at = run.offset_bytes + run.length_bytes

    def stat(self) -> VolumeState:
        """The volume's state at the point, data_bytes exact. The first call may walk maps."""
        out = ffi.new("vs_volume_state *")
        check(lib.vs_view_stat(self._c, out), "account for the volume")
        return state_from(out)

    def hand_over(self) -> None:
        """Another C object owns it now: do not use or close it afterwards."""
        self._c = None

    def file(self) -> VolumeFile:
        """An open file on the view, which it takes over: do not use or close the view afterwards."""
        out = ffi.new("vs_volume_file **")
        check(lib.vs_view_file(self._c, out), "open the view")
        self.hand_over()
        return VolumeFile(out[0])

    def close(self) -> None:
        """Free it. Twice is allowed."""
        if self._c is not None:
            lib.vs_view_close(self._c)
            self._c = None

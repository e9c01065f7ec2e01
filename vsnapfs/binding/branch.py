"""Writable scratch on a point.

Source: native/include/branch.h; native/FORMAT.md section 11.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from vsnapfs.binding._native import ffi, lib
from vsnapfs.binding.closing import Closing
from vsnapfs.binding.faults import Fault, check, fault_from
from vsnapfs.binding.journal import Journal
from vsnapfs.binding.view import RUNS_PER_CALL, Run, RunKind, View, VolumeFile

LAYERS_MAX = int(lib.VS_BRANCH_LAYERS_MAX)
"""Of one volume of a branch."""


class CheckPlace(NamedTuple):
    """Where a check is. ``layer``: which of those that the volume was given."""

    layer: int
    block: int


class BranchFacts(NamedTuple):
    """A branch's figures; each is explained in branch.h."""

    used_bytes: int
    waiting_bytes: int
    shared_bytes: int
    quota_bytes: int
    log_bytes: int
    files: int
    failed: int


class Branch(Closing):
    """All open volumes of one branch. Any thread may call anything at once, but for ``volume`` and ``close``."""

    def __init__(
        self, journal: Journal, *, quota_bytes: int = 0, reserve_bytes: int = 0, writable: bool = True
    ) -> None:
        """A branch without a volume; borrows the journal. ``quota_bytes`` 0: none. ``reserve_bytes`` of the disk are left
        free. Not ``writable``: nothing is changed, and nobody else may write to it meanwhile."""
        options, out = ffi.new("vs_branch_options *"), ffi.new("vs_branch **")
        options.quota_bytes = quota_bytes
        options.reserve_bytes = reserve_bytes
        options.writable = writable
        check(lib.vs_branch_open(journal.c, options, out), "open the branch")
        self._c: Any = out[0]
        self._sizes: dict[int, int] = {}

    def volume(self, volume: int, below: View, layers: Sequence[int]) -> None:
        """Add a volume over its view, which is taken over. ``layers``: ids, oldest first, whose directories are there; the last
        one is written to.

        Raises: IntegrityError: a layer is missing or damaged. FormatUnknownError. The view is the caller's still.
        """
        ids, size_bytes = ffi.new("uint32_t[]", list(layers)), below.size_bytes
        status = lib.vs_branch_volume(self._c, volume, size_bytes, below.c, ids, len(ids))
        check(status, f"open volume {volume} of the branch")
        below.hand_over()
        self._sizes[volume] = size_bytes

    def file(self, volume: int) -> VolumeFile:
        """An open file on a volume, for the plane; it must be released before ``close``. Raises: NotFoundError."""
        out = ffi.new("vs_volume_file **")
        check(lib.vs_branch_file(self._c, volume, out), f"open volume {volume} of the branch")
        return VolumeFile(out[0])

    def read(self, volume: int, offset_bytes: int, length_bytes: int) -> bytes:
        """``length_bytes`` from offset_bytes on, or what is left of the volume.

        Raises: CorruptExtentError: a block does not match its checksum.
        """
        buf = bytearray(max(0, min(length_bytes, self._sizes.get(volume, 0) - offset_bytes)))
        target = ffi.from_buffer("uint8_t[]", buf)
        n = check(lib.vs_branch_read(self._c, volume, offset_bytes, target, len(buf)), "read the branch")
        return bytes(memoryview(buf)[:n])

    def write(self, volume: int, offset_bytes: int, buf: bytes | bytearray | memoryview) -> int:
        """Write; answered when it is in the page cache. Returns the bytes written, short at the end of the volume.

        Raises: NoSpaceError: the quota, the disk, or offset_bytes is at or past the end. StoreError.
        """
        with ffi.from_buffer("uint8_t[]", buf) as source:
            return check(lib.vs_branch_write(self._c, volume, offset_bytes, source, len(source)), "write to the branch")

    def zero(self, volume: int, offset_bytes: int, length_bytes: int) -> None:
        """Make a range zeros; its space is given back by the next sync. What is past the end of the volume is left out."""
        check(lib.vs_branch_zero(self._c, volume, offset_bytes, length_bytes), "write to the branch")

    def sync(self, volume: int = 0) -> None:
        """Return when what was answered before is on stable storage; of all volumes, or of one."""
        check(lib.vs_branch_sync(self._c, volume), "sync the branch")

    def freeze(self, next_layer: int) -> None:
        """Hold writes, bring all on stable storage, begin a new last layer, whose directory is there, in all volumes. Writes wait
        until ``go_on``. Raises: BusyError: it is held already; StoreError, NoSpaceError: nothing is held, nothing has changed."""
        check(lib.vs_branch_freeze(self._c, next_layer), "freeze the branch")

    def go_on(self) -> None:
        """Let writes go on."""
        lib.vs_branch_go_on(self._c)

    def changed(self, volume: int) -> Iterator[Run]:
        """What differs from the point: runs of kind ZERO or DATA in order, in whole blocks; neighbours of one kind are joined."""
        runs, at = ffi.new("vs_run[]", RUNS_PER_CALL), ffi.new("uint64_t *")
        while at[0] < self._sizes[volume]:
            n = check(lib.vs_branch_runs(self._c, volume, at[0], runs, RUNS_PER_CALL, at), "walk the branch's layers")
            for r in runs[0:n]:
                yield Run(r.offset_bytes, r.length_bytes, RunKind(r.kind), r.segment, r.block)

    def facts(self) -> BranchFacts:
        """The figures of now."""
        c = ffi.new("vs_branch_facts *")
        lib.vs_branch_facts_get(self._c, c)
        return BranchFacts(*(getattr(c, name) for name in BranchFacts._fields))

    def check_next(self, volume: int, place: CheckPlace) -> tuple[Fault | None, CheckPlace | None]:
        """A part of ``check``, from a place on. Returns: a block that does not match, if one was met; where to go on, if there is more."""
        cursor, fault = ffi.new("vs_branch_cursor *"), ffi.new("vs_fault *")
        cursor.layer, cursor.block = place
        found = check(lib.vs_branch_check(self._c, volume, cursor, fault), "check the branch")
        return fault_from(fault) if found == 1 else None, CheckPlace(cursor.layer, cursor.block) if found else None

    def check(self, volume: int, going_on: Callable[[], None] | None = None) -> Iterator[Fault]:
        """Read every block of a volume's layers that no later layer hides: what does not match its checksum. ``going_on`` is called now
        and then, and may raise."""
        place: CheckPlace | None = CheckPlace(0, 0)
        while place is not None:
            fault, place = self.check_next(volume, place)
            if fault is not None:
                yield fault
            if going_on is not None:
                going_on()

    def close(self) -> None:
        """Sync, and free it with its views. Files must be released before. Twice is allowed.

        Raises: StoreError: the sync failed; it is freed all the same.
        """
        if self._c is not None:
            c, self._c = self._c, None
            check(lib.vs_branch_close(c), "close the branch")

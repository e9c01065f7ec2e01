"""Views as files that the kernel reads by itself.

Source: native/include/kernel_view.h.
"""

from __future__ import annotations

import errno
from typing import Any, NamedTuple

from vsnapfs.binding._native import ffi, lib
from vsnapfs.binding.closing import Closing
from vsnapfs.binding.faults import check
from vsnapfs.binding.journal import Journal
from vsnapfs.binding.view import View

NO_LIMIT = 2**64 - 1


class Limits(NamedTuple):
    """What building a view may take; the default is: anything.

    verify_bytes: read to compare it with its checksum, or to put blocks together. runs: of the maps. milliseconds: 0 is
    for ever.
    """

    verify_bytes: int = NO_LIMIT
    runs: int = NO_LIMIT
    milliseconds: int = 0


ANYTHING = Limits()
OVER_LIMITS = (-errno.E2BIG, -errno.ETIMEDOUT)


class KernelViews(Closing):
    """Builds kernel views of one journal, and remembers which blocks were compared already. Any thread may build.

    Resource handling: borrows the journal and the descriptor of the scratch directory until ``close``.
    """

    def __init__(self, journal: Journal, scratch_fd: int, *, verify: bool) -> None:
        out = ffi.new("vs_kernel_views **")
        check(lib.vs_kernel_views_new(journal.c, scratch_fd, verify, out), "make ready for kernel views")
        self._c: Any = out[0]

    def probe(self) -> int:
        """Build one of a block of the journal. Returns its descriptor, for the caller to close.

        Raises: StoreError, PermissionDeniedError …: why it cannot be done here.
        """
        out = ffi.new("int *")
        check(lib.vs_kernel_views_probe(self._c, out), "build a kernel view")
        return int(out[0])

    def fits(self, view: View, limits: Limits) -> bool:
        """Would it be built within limits? Reads maps, no data."""
        code = lib.vs_kernel_view_fits(self._c, view.c, ffi.new("vs_kernel_limits *", limits))
        return code not in OVER_LIMITS and check(code, "plan a kernel view") == 0

    def open(self, view: View, limits: Limits = ANYTHING) -> int | None:
        """A descriptor of what the kernel reads, for the caller to close; None: it is not within limits. What was
        compared is remembered all the same.

        Raises: CorruptExtentError: a block does not match its checksum. NoSpaceError. StoreError.
        """
        out = ffi.new("int *")
        code = lib.vs_kernel_view_open(self._c, view.c, ffi.new("vs_kernel_limits *", limits), out)
        if code in OVER_LIMITS:
            return None
        check(code, "build a kernel view")
        return int(out[0])

    def close(self) -> None:
        """Free it; files that were given out stay. Twice is allowed."""
        if self._c is not None:
            lib.vs_kernel_views_free(self._c)
            self._c = None

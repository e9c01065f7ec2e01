"""The floor of the window, and moving bases to it.

Source: native/include/base_move.h.
"""

from __future__ import annotations

import errno
from typing import Any, NamedTuple

from vsnapfs.binding._native import ffi, lib
from vsnapfs.binding.faults import check
from vsnapfs.binding.journal import Journal
from vsnapfs.core.errors import BusyError


class BaseMoveFacts(NamedTuple):
    """What a move of a base comes to; each is explained in base_move.h."""

    bytes_before: int
    bytes_after: int
    copied_bytes: int
    patched_bytes: int


def set_floor(journal: Journal, seqno: int) -> None:
    """Give up all points before a seqno, durably. Raises: PointGoneError: it is gone itself, or not committed."""
    check(lib.vs_journal_floor(journal.c, seqno), f"make @{seqno} the oldest point")


def move_base(journal: Journal, volume: int, seqno: int) -> BaseMoveFacts | None:
    """Move a volume's base to the floor, which ``seqno`` is. None: there was nothing to do.

    Raises: BusyError: somebody reads below the floor, or a primary is behind it: try again later. CorruptExtentError: what was to
    be copied is damaged. StoreError: also when it was told to end.
    """
    out = ffi.new("vs_base_move_facts *")
    status = lib.vs_journal_base_move(journal.c, volume, seqno, out)
    if status == -errno.EAGAIN:
        raise BusyError(f"a point before @{seqno} is open", seqno=seqno, hint="it can go when nobody reads it any more")
    return _facts(out) if check(status, f"move the base of volume {volume}") else None


def estimate_move(journal: Journal, volume: int, seqno: int) -> BaseMoveFacts | None:
    """What a move to ``seqno``, the floor or a later record, would come to; reads no data. None: there is nothing to do."""
    out = ffi.new("vs_base_move_facts *")
    status = lib.vs_journal_base_move_estimate(journal.c, volume, seqno, out)
    return _facts(out) if check(status, f"look at the base of volume {volume}") else None


def base_seqno(journal: Journal, volume: int) -> int:
    """The record up to which a volume's base has everything; 0: it has none, or the one that was taken in."""
    return int(lib.vs_journal_base_seqno(journal.c, volume))


def end_work(journal: Journal) -> None:
    """Have long work of the owner give up, now and from now on. A journal that is closed has none."""
    if journal.c is not None:
        lib.vs_journal_work_end(journal.c)


def _facts(c: Any) -> BaseMoveFacts:
    return BaseMoveFacts(*(int(getattr(c, name)) for name in BaseMoveFacts._fields))

"""Writes that stand still for a moment, so that positions of several journals are one cut.

Source: native/include/hold.h.
"""

from __future__ import annotations

from typing import NamedTuple

from vsnapfs.binding._native import ffi, lib
from vsnapfs.binding.faults import check
from vsnapfs.binding.journal import Journal

HOLD_MS_DEFAULT: int = lib.VS_HOLD_MS_DEFAULT
HOLD_MS_MAX: int = lib.VS_HOLD_MS_MAX


class HoldPosition(NamedTuple):
    """Where a journal stands while it is held. ``hold``: for letting go. ``time_ns``: of record ``seqno``; another record may
    bear its seqno after a crash, none bears both."""

    hold: int
    seqno: int
    time_ns: int


def hold(journal: Journal, milliseconds: int = 0) -> HoldPosition:
    """Let no write get a record for at most so long (0: HOLD_MS_DEFAULT). What was answered before is in the position.

    Waits for another hold's end, for as long at most. Raises: BusyError: it goes on. UsageError: longer than HOLD_MS_MAX.
    StoreError, NoSpaceError: the journal failed, there is a gap, or the owner is about to close.
    """
    out = ffi.new("vs_hold_position *")
    check(lib.vs_journal_hold(journal.c, milliseconds, out), "hold the writes")
    return HoldPosition(out.hold, out.seqno, out.time_ns)


def let_go(journal: Journal, number: int) -> None:
    """End that hold. Raises: TimedOutError: it had ended before, so that its position is no part of a cut."""
    check(lib.vs_journal_let_go(journal.c, number), "let the writes go")


def holds_end(journal: Journal) -> None:
    """End a hold, and refuse others from now on: the owner is about to close."""
    lib.vs_journal_holds_end(journal.c)

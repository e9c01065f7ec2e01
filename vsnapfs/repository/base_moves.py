"""The floor of the window, and moving bases to it: how points at the old end are given up for good.

The floor is in the journal before anything below it is touched. Then each volume's base takes in what records up to the
floor put into it; those records are not needed any more, and a compaction may drop them. All of it can be interrupted at
any time and is done again by asking again.
"""

from __future__ import annotations

from collections.abc import Callable

from vsnapfs.binding.base_move import BaseMoveFacts, estimate_move, move_base, set_floor
from vsnapfs.catalog.index import VolumeEntry
from vsnapfs.core.errors import BusyError, PointGoneError
from vsnapfs.core.model import Progress
from vsnapfs.repository import base, gaps, identity
from vsnapfs.repository.parts import Parts, Report

RETRY_S = 0.2
"""How long to wait before asking again whether somebody still reads below the floor."""


def set_lowest(parts: Parts, seqno: int) -> None:
    """Make ``seqno`` the oldest point that can be opened. It never goes back.

    Raises: PointGoneError: it is gone itself, or was not written yet. GapError. BusyError: a bookmark is older, named.
    """
    parts.require_owner()
    with parts.change:
        facts = parts.journal.facts()
        if not facts.first_seqno <= seqno <= facts.committed_seqno:
            raise PointGoneError(
                f"@{seqno} cannot become the oldest point: the window is from @{facts.first_seqno} to"
                f" @{facts.committed_seqno}",
                seqno=seqno,
            )
        gaps.refuse_seqno(parts, f"@{seqno}", seqno)
        with parts.names:
            oldest = next(iter(parts.index.bookmarks()), None)
        if oldest is not None and oldest.seqno < seqno:
            raise BusyError(
                f"bookmark {oldest.name!r} is at @{oldest.seqno}, before @{seqno}",
                seqno=oldest.seqno,
                hint="remove it first",
            )
        if seqno > facts.first_seqno:
            identity.add_feature(parts.layout, identity.COMPACTION)
            set_floor(parts.journal, seqno)
            parts.catch_up()


def move_all(parts: Parts, report: Report, give_up: Callable[[], bool]) -> list[str]:
    """Move the base of every volume to the floor, one after the other.

    Where somebody still reads below the floor, wait for them until ``give_up`` says to leave it. Returns the names of
    volumes that are left. Raises: IntegrityError: what is to be moved is damaged, and so stays. NoSpaceError, StoreError.
    BusyError: the repository is being closed.
    """
    parts.require_owner()
    with parts.beside("the move of bases"):
        seqno = parts.journal.facts().first_seqno
        with parts.names:
            entries = parts.index.volumes()
        left = []
        for done, entry in enumerate(entries):
            parts.tell(report, Progress(what=f"base of {entry.name}", done=done, total=len(entries), unit="files"))
            if seqno > 1 and not _move(parts, entry, seqno, give_up):
                left.append(entry.name)
        parts.tell(report, Progress(what="bases", done=len(entries), total=len(entries), unit="files"))
        return left


def estimates(parts: Parts, seqno: int) -> dict[str, BaseMoveFacts]:
    """What moves to ``seqno`` would come to, by volume; of volumes where there is something to move. Reads no data."""
    with parts.names:
        entries = [entry for entry in parts.index.volumes() if entry.stands_at(seqno)]
    found = {entry.name: estimate_move(parts.journal, entry.id, seqno) for entry in entries}
    return {name: facts for name, facts in found.items() if facts is not None}


def _move(parts: Parts, entry: VolumeEntry, seqno: int, give_up: Callable[[], bool]) -> bool:
    """False: somebody reads below the floor."""
    if entry.stands_at(seqno):
        base.require(parts, entry)
    while True:
        try:
            move_base(parts.journal, entry.id, seqno)
        except BusyError:
            if give_up():
                return False
            parts.wait(RETRY_S)
        else:
            return True

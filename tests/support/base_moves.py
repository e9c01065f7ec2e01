"""The steps of a prune that give up points and move bases, each by itself, on a real repository."""

from __future__ import annotations

import time
from collections.abc import Callable

from vsnapfs.binding.base_move import BaseMoveFacts
from vsnapfs.core.errors import BusyError
from vsnapfs.repository import identity
from vsnapfs.repository.compactable import CompactableJournal
from vsnapfs.repository.repository import Repository

RETRY_S = 0.05


def floor(repository: Repository, seqno: int) -> None:
    """Give up all points before a seqno, for good. No bookmark may be older."""
    parts = repository._parts
    with parts.change:
        identity.add_feature(parts.layout, identity.COMPACTION)
        CompactableJournal(parts).set_floor(seqno)
        parts.catch_up()


def move_bases(repository: Repository, give_up: Callable[[], bool] = lambda: True) -> list[str]:
    """Move all bases to the floor. give_up: asked now and then while somebody still reads points before it. Returns the names of
    volumes whose base is left where it is."""
    parts = repository._parts
    seqno = parts.journal.facts().first_seqno
    with parts.names:
        entries = parts.index.volumes()
    return [entry.name for entry in entries if seqno > 1 and not _moved(repository, entry.id, seqno, give_up)]


def _moved(repository: Repository, volume: int, seqno: int, give_up: Callable[[], bool]) -> bool:
    while True:
        try:
            CompactableJournal(repository._parts).move_base(volume, seqno)
        except BusyError:
            if give_up():
                return False
            time.sleep(RETRY_S)
        else:
            return True


def estimates(repository: Repository, seqno: int) -> dict[str, BaseMoveFacts]:
    """What moves to ``seqno`` would come to, by volume; of volumes where there is something to move."""
    parts = repository._parts
    with parts.names:
        entries = parts.index.volumes()
    found = {entry.name: CompactableJournal(parts).estimate_move(entry.id, seqno) for entry in entries}
    return {name: facts for name, facts in found.items() if facts is not None}

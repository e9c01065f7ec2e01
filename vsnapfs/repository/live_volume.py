"""A live volume as a target (bring.py): what differs from its newest state becomes records, and by them reaches its primary."""

from __future__ import annotations

import os

from vsnapfs.binding import Closing, View
from vsnapfs.catalog.index import VolumeEntry
from vsnapfs.core.errors import BusyError, DegradedError, IntegrityError, VsnapfsError
from vsnapfs.repository.parts import Parts
from vsnapfs.repository.reading import view_of


def require_in_use(parts: Parts, entry: VolumeEntry) -> None:
    """Raises: DegradedError: the volume has a primary, and it is not in use."""
    if entry.primary_kind != "none" and entry.id not in parts.primaries:
        raise DegradedError(
            parts.problems.get(entry.id, f"the primary of {entry.name} is not in use"), volume=entry.name
        )


class LiveVolume(Closing):
    """A volume from its newest committed state on. Who writes to it meanwhile may be written over.

    Resource handling: ``close`` ends its view.
    """

    def __init__(self, parts: Parts, entry: VolumeEntry) -> None:
        parts.journal.commit()
        self._parts, self._entry = parts, entry
        self.seqno = parts.journal.facts().committed_seqno
        self._last_seqno = self.seqno
        self._records = 0
        self._head = view_of(parts, entry, self.seqno)

    @property
    def head(self) -> View:
        """As it was before."""
        return self._head

    def close(self) -> None:
        self._head.close()

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        return self._head.read(offset_bytes, length_bytes)

    def write(self, offset_bytes: int, content: bytes) -> None:
        self._last_seqno = self._parts.journal.write(self._entry.id, offset_bytes, content)
        self._records += 1

    def zero(self, offset_bytes: int, length_bytes: int) -> None:
        self._last_seqno = self._parts.journal.zero(self._entry.id, offset_bytes, length_bytes)
        self._records += 1

    def settle(self) -> None:
        self._parts.journal.commit()

    def read_back(self, offset_bytes: int, length_bytes: int) -> bytes:
        """From its primary; of what is not there yet, and of a volume that has none, from the journal."""
        journal, primary = self._parts.journal, self._parts.primaries.get(self._entry.id)
        if primary is None:
            with view_of(self._parts, self._entry, journal.facts().committed_seqno) as newest:
                return newest.read(offset_bytes, length_bytes)
        os.posix_fadvise(primary, offset_bytes, length_bytes, os.POSIX_FADV_DONTNEED)
        return journal.read_live(self._entry.id, offset_bytes, length_bytes)

    def refuse_others(self) -> None:
        """Raises: BusyError: somebody else wrote to it since it was taken as it was, and that was committed."""
        pieces = self._parts.journal.pieces(self.seqno)
        records = len({piece.seqno for piece in pieces if piece.volume == self._entry.id})
        if records != self._records:
            raise self._written_meanwhile()

    def mismatch(self, offset_bytes: int) -> VsnapfsError:
        name = self._entry.name
        state = self._parts.journal.volume_at(self._entry.id, self._parts.journal.facts().committed_seqno)
        if state is not None and state.last_write_seqno > self._last_seqno:
            return self._written_meanwhile()
        return IntegrityError(
            f"volume {name} does not read back at {offset_bytes} as it was written",
            volume=name,
            offset_bytes=offset_bytes,
            hint="see whether its primary is sound",
        )

    def _written_meanwhile(self) -> BusyError:
        name = self._entry.name
        return BusyError(
            f"live/{name} was written to meanwhile", volume=name, hint="stop whoever uses it, and try again"
        )

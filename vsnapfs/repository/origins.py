"""What volumes are restored from: a point of the journal, or a branch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple, Protocol

from vsnapfs.binding import RunKind
from vsnapfs.catalog.index import VolumeEntry
from vsnapfs.core.model import Point
from vsnapfs.repository.bring import Source
from vsnapfs.repository.parts import Parts
from vsnapfs.repository.reading import view_of
from vsnapfs.repository.sources import ViewSource
from vsnapfs.repository.sparse import Span


class Held(NamedTuple):
    """A volume as an origin has it."""

    id: int
    name: str
    size_bytes: int


class Origin(Protocol):
    """What volumes were at some moment."""

    @property
    def text(self) -> str:
        """For notes and messages, such as ``@1234``."""

    @property
    def seqno(self) -> int:
        """The point that it is, or that it stands on."""

    def volume(self, name: str) -> Held:
        """Raises: NotFoundError: it had none of that name."""

    def source(self, volume: Held) -> AbstractContextManager[Source]:
        """One of them, to read."""

    def own(self, volume: Held) -> Iterator[Span]:
        """Where it differs from the point that it stands on."""


class PointOrigin:
    """A point of the journal."""

    def __init__(self, parts: Parts, point: Point) -> None:
        self._parts, self._point = parts, point

    @property
    def text(self) -> str:
        return f"@{self._point.seqno}"

    @property
    def seqno(self) -> int:
        return self._point.seqno

    def volume(self, name: str) -> Held:
        entry = self._parts.entry(name, self.seqno)
        state = self._parts.state_at(entry.id, self.seqno)
        return Held(entry.id, name, entry.size_bytes if state is None else state.size_bytes)

    @contextmanager
    def source(self, volume: Held) -> Iterator[Source]:
        with view_of(self._parts, self._parts.entry(volume.name, self.seqno), self.seqno) as view:
            yield ViewSource(view)

    def own(self, _volume: Held) -> Iterator[Span]:
        return iter(())


def changed_since(parts: Parts, entry: VolumeEntry, since: int, until: int) -> Iterator[Span]:
    """Where records after ``since``, up to ``until``, put something into a volume."""
    if since >= until:
        return
    with parts.journal.changes(entry.id, since, until) as changed:
        for run in changed.runs(keep_zeros=True):
            if run.kind != RunKind.HOLE:
                yield Span(run.offset_bytes, run.offset_bytes + run.length_bytes)

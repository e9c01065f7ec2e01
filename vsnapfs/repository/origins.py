"""What volumes are restored from: a point of the journal, or a branch as it is now."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple, Protocol

from vsnapfs.binding import RunKind
from vsnapfs.catalog.index import VolumeEntry
from vsnapfs.core.branch import SOURCE_PREFIX, source_branch
from vsnapfs.core.model import Point
from vsnapfs.repository import branches
from vsnapfs.repository.branch_files import BranchFile
from vsnapfs.repository.bring import Source
from vsnapfs.repository.parts import Parts
from vsnapfs.repository.reading import view_of
from vsnapfs.repository.resolve import resolve
from vsnapfs.repository.sources import ViewSource, data_of
from vsnapfs.repository.sparse import Span, union


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

    def still(self, what: str) -> AbstractContextManager[None]:
        """It stays as it is as long as the block lasts; what: that is for. Raises: BusyError: somebody may change it."""


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

    def still(self, _what: str) -> AbstractContextManager[None]:
        return nullcontext()


class BranchOrigin:
    """A branch. What is read is as it is then; of one state only within ``still``."""

    def __init__(self, parts: Parts, name: str) -> None:
        self._parts = parts
        self._file = branches.find(parts, name)

    @property
    def text(self) -> str:
        return f"{SOURCE_PREFIX}{self._file.name}"

    @property
    def seqno(self) -> int:
        return self._file.seqno

    def volumes(self) -> list[str]:
        """The names of all that it has."""
        return [volume.name for volume in self._file.volumes]

    def volume(self, name: str) -> Held:
        found = branches.volume_of(self._file, name)
        return Held(found.id, found.name, found.size_bytes)

    @contextmanager
    def source(self, volume: Held) -> Iterator[Source]:
        with branches.opened(self._parts, self._file):
            """It can be."""
        yield _BranchSource(self._parts, self._file, self, volume)

    def own(self, volume: Held) -> Iterator[Span]:
        with branches.opened(self._parts, self._file) as branch:
            runs = list(branch.changed(volume.id))
        return (Span(run.offset_bytes, run.offset_bytes + run.length_bytes) for run in runs)

    def still(self, what: str) -> AbstractContextManager[None]:
        return branches.still(self._parts, self._file, what)


class _BranchSource:
    """Opened anew for each read, so that others get at the branch between; what is open already is not opened again."""

    def __init__(self, parts: Parts, file: BranchFile, origin: BranchOrigin, volume: Held) -> None:
        self._parts, self._file, self._origin, self._volume = parts, file, origin, volume

    @property
    def size_bytes(self) -> int:
        return self._volume.size_bytes

    def spans(self) -> Iterator[Span]:
        with self._parts.names:
            entry = self._parts.index.volume_by_id(self._volume.id)
        assert entry is not None, "a branch that was opened has volumes that are known"
        with view_of(self._parts, entry, self._file.seqno) as below:
            yield from union(data_of(below), self._origin.own(self._volume), self.size_bytes)

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        with branches.opened(self._parts, self._file) as branch:
            return branch.read(self._volume.id, offset_bytes, length_bytes)


def origin_of(parts: Parts, text: str) -> Origin:
    """What a point or ``branch:NAME`` means now. Raises: NotFoundError, UsageError, PointGoneError, GapError, IntegrityError."""
    name = source_branch(text)
    return PointOrigin(parts, resolve(parts, text, time.time_ns())) if name is None else BranchOrigin(parts, name)


def changed_since(parts: Parts, entry: VolumeEntry, since: int, until: int) -> Iterator[Span]:
    """Where records after ``since``, up to ``until``, put something into a volume."""
    if since >= until:
        return
    with parts.journal.changes(entry.id, since, until) as changed:
        for run in changed.runs(keep_zeros=True):
            if run.kind != RunKind.HOLE:
                yield Span(run.offset_bytes, run.offset_bytes + run.length_bytes)

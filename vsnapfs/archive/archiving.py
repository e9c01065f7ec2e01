"""A point onto the tapes of a medium: begun, gone on with, read back, and told to the catalog.

Source: docs/archive.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from vsnapfs.archive import coding, position, volumes
from vsnapfs.archive.entries import archive_entry
from vsnapfs.archive.manifest import Manifest
from vsnapfs.archive.pieces import Flow
from vsnapfs.archive.position import Position
from vsnapfs.archive.source import Source
from vsnapfs.archive.sums import SummedStream
from vsnapfs.archive.verifying import verify
from vsnapfs.archive.volumes import Subject
from vsnapfs.archive.writing import Archiver, Clock, Report, under_way
from vsnapfs.catalog.tapes import Tapes
from vsnapfs.core.errors import DegradedError, PointGoneError, with_hint
from vsnapfs.core.model import Point
from vsnapfs.core.tapes import ArchivedPoint, ArchiveEntry
from vsnapfs.media.medium import Medium
from vsnapfs.repository.repository import Repository


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """How an archive is written."""

    flow: Flow
    piece_bytes: int
    fresh: bool = False
    """It begins on a tape that holds nothing else."""
    verify: bool = False
    """Read it back, from the medium, before it counts as complete."""


class Archived(msgspec.Struct, frozen=True, kw_only=True):
    """What was done."""

    archive: ArchiveEntry
    tapes: list[str]
    """The labels of those that hold it, in the order in which they are read."""
    resumed_at_bytes: int | None
    """Of the stream; None: it was begun."""
    verified: bool


class Archiving:
    """Archives of one repository to one medium.

    Concurrency: one thread; alone.py keeps other processes out.
    """

    def __init__(self, repository: Repository, catalog: Tapes, medium: Medium, clock: Clock) -> None:
        self._repository = repository
        self._catalog = catalog
        self._medium = medium
        self._clock = clock

    def begin(self, subject: Subject, choice: Choice, report: Report) -> Archived:
        """Make an archive.

        Raises: NoSpaceError: no tape can be written to. CorruptExtentError: a volume is damaged, and where. IntegrityError: it was not
        read back as it was written. What fails leaves what is on tape, for ``resume``.
        """
        coding.require(choice.flow.coding)
        manifest = volumes.manifest_of(self._repository, subject, self._clock())
        return self._write(manifest, subject, Position(), choice, report)

    def broken_off(self, subject: Subject | None) -> ArchiveEntry | None:
        """The newest archive on this medium that can be gone on with; subject: of this."""
        for entry in reversed(self._catalog.broken_off()):
            ours = (entry.medium, entry.repository) == (self._medium.name, self._repository.uuid)
            if ours and (subject is None or _is_of(entry, subject)):
                return entry
        return None

    def resume(self, entry: ArchiveEntry, choice: Choice, report: Report) -> Archived:
        """Go on with one behind its last whole piece. One that failed when all of it was on tape is read back in any case.

        Raises: as ``begin``. PointGoneError: the point is gone. DegradedError: the point does not read as it did.
        """
        coding.require(choice.flow.coding)
        found = position.found(self._catalog, self._medium, entry, self._clock(), fresh=choice.fresh)
        try:
            if found.last is not None:
                manifest = found.last.manifest
                subject = _subject_of(manifest)
            else:
                subject = self._subject_again(entry)
                manifest = volumes.manifest_again(self._repository, subject, entry)
            if entry.state == "failed" and found.last is not None and found.last.last:
                choice = msgspec.structs.replace(choice, verify=True)
            return self._write(manifest, subject, found, choice, report)
        except PointGoneError as error:
            raise with_hint(error, f"`vsnapfs archive drop {entry.uuid[:8]}` gives up what there is of it") from error
        finally:
            if found.tape is not None:
                found.tape.close()

    def _subject_again(self, entry: ArchiveEntry) -> Subject:
        since = None if entry.since is None else volumes.point_again(self._repository, entry.since)
        point = volumes.point_again(self._repository, entry.point)
        return Subject(point=point, since=since, parent=entry.parent, volumes=entry.volumes)

    def _write(self, manifest: Manifest, subject: Subject, start: Position, choice: Choice, report: Report) -> Archived:
        with volumes.opened(self._repository, subject) as sources:
            stream = _stream(manifest, sources, start)
            entry = archive_entry(stream.manifest, self._medium.name)
            with under_way(self._catalog, entry):
                archiver = Archiver(
                    stream,
                    self._medium,
                    self._catalog,
                    choice.flow,
                    piece_bytes=choice.piece_bytes,
                    clock=self._clock,
                )
                archiver.write(start, report, fresh=choice.fresh)
                if choice.verify:
                    verify(self._catalog, self._medium, entry, report)
            self._catalog.complete(entry.uuid)
        made = self._catalog.archive(entry.uuid)
        return Archived(
            archive=made,
            tapes=[tape.label for tape in self._catalog.tapes_of([made])],
            resumed_at_bytes=start.offset_bytes if start.number else None,
            verified=choice.verify,
        )


def _stream(manifest: Manifest, sources: Sequence[Source], start: Position) -> SummedStream:
    known = {} if start.last is None else start.last.digests
    stream = SummedStream(manifest, list(sources), known)
    if start.last is not None and (stream.layout != start.last.layout or stream.manifest != start.last.manifest):
        raise DegradedError(
            f"@{manifest.point.seqno} does not read as it did when archive {manifest.archive} was begun",
            hint="make a new one, without --resume",
        )
    return stream


def _is_of(entry: ArchiveEntry, subject: Subject) -> bool:
    """It holds the same. By the times too: a number may have become that of another record."""
    points = _same(entry.point, subject.point) and _same(entry.since, subject.since)
    return points and set(entry.volumes) == set(subject.volumes)


def _same(archived: ArchivedPoint | None, point: Point | None) -> bool:
    if archived is None or point is None:
        return archived is None and point is None
    return (archived.seqno, archived.time) == (point.seqno, point.time)


def _subject_of(manifest: Manifest) -> Subject:
    names = tuple(volume.name for volume in manifest.volumes)
    return Subject(point=manifest.point, since=manifest.since, parent=manifest.parent, volumes=names)

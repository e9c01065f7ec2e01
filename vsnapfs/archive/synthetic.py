"""A synthetic full archive: what a chain makes, as one full archive on another tape, without the repository that the point is of.

The chain is recalled into a staging directory first, verified, and archived from there: so it needs one drive alone, and a tape that
cannot be read ends it before anything is written. Nothing damaged is archived as if it were whole.

Source: docs/recall.md, section on synthetic full archives.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

import msgspec

from vsnapfs.archive import coding, position
from vsnapfs.archive.alone import alone
from vsnapfs.archive.entries import archive_entry
from vsnapfs.archive.manifest import FORMAT, MadeFrom, Manifest
from vsnapfs.archive.pieces import Flow
from vsnapfs.archive.position import Position
from vsnapfs.archive.recall import Recalled
from vsnapfs.archive.request import Wanted, flow_of
from vsnapfs.archive.source import ImageSource
from vsnapfs.archive.sums import SummedStream
from vsnapfs.archive.to_command import Target, to_command
from vsnapfs.archive.writing import Archiver, under_way
from vsnapfs.catalog.tapes import Tapes
from vsnapfs.core.errors import DegradedError, IntegrityError
from vsnapfs.core.state import Progress
from vsnapfs.core.tapes import ArchiveEntry
from vsnapfs.core.times import iso
from vsnapfs.media.kinds import open_medium
from vsnapfs.media.medium import Medium
from vsnapfs.policy.media import CommandSettings, MediumSettings
from vsnapfs.repository.tapes import shelf

Report = Callable[[Progress], None]
Asker = Callable[[str], None]


def archive_images(
    repository: Path, medium: str, done: Recalled, report: Report, ask: Asker | None, *, resume: bool
) -> ArchiveEntry:
    """Write what a recall has made to a medium of a repository, as one full archive of the same point.

    Args: resume: go on with one of the same chain that was broken off there. Raises: IntegrityError: something of it is lost.
    NoSpaceError, BusyError: what is on tape stays, for a resume.
    """
    if done.lost:
        raise IntegrityError(
            f"{len(done.lost)} places of what was recalled are lost, and it is not archived as if it were whole",
            hint="recall it --to a directory for what there is",
        )
    with shelf(repository, write=True) as held, alone(repository, medium):
        settings = held.settings_of(medium)
        flow = flow_of(Wanted(to=medium), settings)
        if isinstance(settings, CommandSettings):
            target = Target(medium, settings, repository, held.tapes, flow, time.time_ns)
            return to_command(target, manifest_of(done, None), partial(_sources, done), report)[0]
        coding.require(flow.coding)
        with closing(open_medium(medium, settings, ask)) as opened:
            entry = _broken_off(held.tapes, medium, done) if resume else None
            return _written(held.tapes, opened, entry, done, flow, settings, report)


def _broken_off(catalog: Tapes, medium: str, done: Recalled) -> ArchiveEntry | None:
    """That of the same chain, as the index of its last piece says."""
    point = done.manifest.point.seqno
    for entry in reversed(catalog.archives()):
        same = (entry.medium, entry.repository, entry.kind) == (medium, done.manifest.repository, "full")
        if same and entry.point.seqno == point and entry.state in ("under way", "failed"):
            return entry
    return None


def _written(
    catalog: Tapes,
    medium: Medium,
    entry: ArchiveEntry | None,
    done: Recalled,
    flow: Flow,
    settings: MediumSettings,
    report: Report,
) -> ArchiveEntry:
    fresh = not settings.append
    start = Position() if entry is None else position.found(catalog, medium, entry, time.time_ns(), fresh=fresh)
    manifest = manifest_of(done, None if entry is None else entry.uuid)
    if start.last is not None:
        manifest = start.last.manifest
    with _sources(done) as sources:
        stream = SummedStream(manifest, list(sources), None if start.last is None else start.last.digests)
        if start.last is not None and (stream.layout, stream.manifest) != (start.last.layout, start.last.manifest):
            raise DegradedError(
                f"archive {manifest.archive[:8]} was begun from something else",
                hint="make a new one, without --resume",
            )
        begun = archive_entry(stream.manifest, medium.name)
        archiver = Archiver(stream, medium, catalog, flow, piece_bytes=settings.piece_bytes, clock=time.time_ns)
        with under_way(catalog, begun):
            archiver.write(start, report, fresh=fresh)
        catalog.complete(begun.uuid)
        return catalog.archive(begun.uuid)


def manifest_of(done: Recalled, archive: str | None) -> Manifest:
    """Of the new archive, without its volumes: the point is the chain's, and so is the repository; it says what it was made from."""
    return msgspec.structs.replace(
        done.manifest,
        format=FORMAT,
        archive=archive or str(uuid.uuid4()),
        made=iso(time.time_ns()),
        kind="full",
        since=None,
        parent=None,
        volumes=(),
        made_from=tuple(
            MadeFrom(archive=one, sums_sha256=sums) for one, sums in zip(done.archives, done.sums, strict=True)
        ),
    )


@contextmanager
def _sources(done: Recalled) -> Iterator[Sequence[ImageSource]]:
    with ExitStack() as stack:
        found: list[ImageSource] = []
        for volume in done.manifest.volumes:
            if volume.name in done.images:
                path = Path(done.images[volume.name])
                source = ImageSource(
                    path, name=volume.name, id=volume.id, block_bytes=volume.block_bytes, mtime_ns=volume.mtime_ns
                )
                stack.callback(source.close)
                found.append(source)
        yield found

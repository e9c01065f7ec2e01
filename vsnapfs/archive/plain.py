"""A point into a file or a pipe: one piece, a plain tar, and for a file ``FILE.index`` beside it.

A file that was broken off is ``FILE.partial``. Its first member says which archive it was going to be, so the same stream can be made
again, compared with what is there, and gone on with.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from vsnapfs.archive import coding, volumes
from vsnapfs.archive.feed import Feed
from vsnapfs.archive.index import MAGIC, ChunkDigest, encode
from vsnapfs.archive.manifest import MANIFEST, Manifest, decode_manifest
from vsnapfs.archive.output import Pace
from vsnapfs.archive.pieces import Flow, Where, index_of, write_piece
from vsnapfs.archive.stream import Cut
from vsnapfs.archive.sums import SummedStream
from vsnapfs.archive.tar import MemberHead, read_head
from vsnapfs.archive.verifying import digest_of
from vsnapfs.archive.volumes import Subject
from vsnapfs.archive.writing import Report, teller
from vsnapfs.core.errors import IntegrityError, NameTakenError
from vsnapfs.core.state import Progress
from vsnapfs.media.file_reader import FileReader
from vsnapfs.media.plain import PipeWriter, PlainWriter, open_plain, partial_bytes, partial_of
from vsnapfs.media.plain import index_of as index_path
from vsnapfs.repository.repository import Repository

MANIFEST_BYTES_MAX = 1 << 28
READ_BYTES = 1 << 20


class ArchivedPlain(msgspec.Struct, frozen=True, kw_only=True):
    """What was written."""

    to: str
    archive: str
    """Its uuid."""
    kind: str
    point: str
    """The directory in the tar."""
    seqno: int
    """Of that point."""
    stream_bytes: int
    stored_bytes: int
    sha256: str
    """Of what was stored."""
    resumed_at_bytes: int | None
    verified: bool


class How(NamedTuple):
    """force: a file that exists is written over. resume: go on with ``FILE.partial``, if that is the beginning of an archive of the
    same; what is compressed or encrypted begins anew. verify: read it back."""

    force: bool = False
    resume: bool = False
    verify: bool = False


def to_pipe(
    repository: Repository, subject: Subject, fd: int, flow: Flow, report: Report, now_ns: int
) -> ArchivedPlain:
    """Write to a descriptor, which stays the caller's. Raises: StoreError: nobody reads any more. As sources and codings do."""
    coding.require(flow.coding)
    with volumes.opened(repository, subject) as sources:
        stream = SummedStream(volumes.manifest_of(repository, subject, now_ns), sources)
        writer = PipeWriter(fd, "standard output")
        try:
            digest = _written(stream, 0, writer, flow, report, ChunkDigest())
        finally:
            writer.abandon()
    return _done("-", stream, digest, resumed_at=None, verified=False)


def to_file(
    repository: Repository,
    subject: Subject,
    path: Path,
    flow: Flow,
    report: Report,
    now_ns: int,
    how: How,
) -> ArchivedPlain:
    """Write a file and its index.

    Raises: NameTakenError, BusyError, NoSpaceError, as sources and codings do. IntegrityError: it was not read back as it was written;
    it has not got its name then.
    """
    coding.require(flow.coding)
    _require_ours(index_path(path), force=how.force)
    writer = PlainWriter(path, force=how.force, resume=how.resume)
    try:
        before = _broken_off(path, subject) if how.resume and flow.coding == coding.Coding() else None
        manifest = before or volumes.manifest_of(repository, subject, now_ns)
        with volumes.opened(repository, subject) as sources:
            stream = SummedStream(manifest, sources)
            digest = ChunkDigest()
            kept_bytes = _kept_bytes(path, stream, digest, report) if before is not None else 0
            writer.keep(kept_bytes)
            _written(stream, kept_bytes, writer, flow, report, digest)
        if how.verify:
            writer.sync()
            _verify(partial_of(path), digest)
        if os.path.lexists(path):
            index_path(path).unlink(missing_ok=True)  # neither file may stand beside the index of the other
            writer.finish()
            _write_index(stream, path, digest, flow)
        else:
            _write_index(stream, path, digest, flow)  # so that whatever has the file's name has it
            writer.finish()
    finally:
        writer.abandon()
    return _done(str(path), stream, digest, resumed_at=kept_bytes or None, verified=how.verify)


def _require_ours(path: Path, *, force: bool) -> None:
    """What stands where the index comes. Raises: NameTakenError: it is none."""
    if force or not os.path.lexists(path):
        return
    reader = open_plain(path)
    try:
        begins = _exactly(reader, len(MAGIC)) == MAGIC
    except IntegrityError:
        begins = False
    finally:
        reader.close()
    if not begins:
        raise NameTakenError(f"{path}, where the index comes, is something else", hint="--force writes over it")


def _written(
    stream: SummedStream, at: int, target: PipeWriter | PlainWriter, flow: Flow, report: Report, digest: ChunkDigest
) -> ChunkDigest:
    """The stream from an offset on."""
    feed = Feed(stream, at, flow.buffer_bytes)
    try:
        rest = Cut(at, stream.length_bytes - at, None, b"")
        return write_piece(feed, rest, target, flow, Pace(flow.rate_bytes), teller(stream, at, report), digest)
    finally:
        feed.close()


def _broken_off(path: Path, subject: Subject) -> Manifest | None:
    """The manifest of ``FILE.partial``, if that begins an archive of the same; None: it does not, or is not there."""
    if not partial_bytes(path):
        return None
    reader = open_plain(partial_of(path))
    try:
        with suppress(IntegrityError):
            head = read_head(lambda length: _exactly(reader, length))
            if isinstance(head, MemberHead) and head.name.endswith(MANIFEST) and head.stored_bytes < MANIFEST_BYTES_MAX:
                found = decode_manifest(_exactly(reader, head.stored_bytes))
                names = tuple(volume.name for volume in found.volumes)
                if (found.point, found.since, names) == (subject.point, subject.since, subject.volumes):
                    return msgspec.structs.replace(found, volumes=())
    finally:
        reader.close()
    return None


def _exactly(reader: FileReader, length_bytes: int) -> bytes:
    content = memoryview(bytearray(length_bytes))
    done = 0
    while done < length_bytes:
        count = reader.readinto(content[done:])
        if not count:
            raise IntegrityError("the file ends before its first member does")
        done += count
    return bytes(content)


def _kept_bytes(path: Path, stream: SummedStream, digest: ChunkDigest, report: Report) -> int:
    """How much of ``FILE.partial`` is the stream's beginning, in whole buffers; the digests take it in."""
    reader = open_plain(partial_of(path))
    try:
        at = 0
        there = partial_bytes(path)
        for content in stream.read(0, min(there // READ_BYTES * READ_BYTES, stream.sums_offset)):
            if _exactly(reader, len(content)) != content:
                break
            stream.take(at, content)
            digest.update(content)
            at += len(content)
            report(Progress(what=f"{partial_of(path).name} compared", done=at, total=there))
        return at
    finally:
        reader.close()


def _write_index(stream: SummedStream, path: Path, digest: ChunkDigest, flow: Flow) -> None:
    whole = Cut(0, stream.length_bytes, None, b"")
    index = index_of(stream, whole, Where(0, None, 0, None), digest, flow.coding)
    writer = PlainWriter(index_path(path), force=True)
    try:
        writer.write(encode(index))
        writer.finish()
    finally:
        writer.abandon()


def _verify(path: Path, written: ChunkDigest) -> None:
    reader = open_plain(path)
    try:
        read = digest_of(reader)
    finally:
        reader.close()
    if (read.sha256, read.stored_bytes) != (written.sha256, written.stored_bytes):
        raise IntegrityError(f"{path} was not read back as it was written")


def _done(
    to: str, stream: SummedStream, digest: ChunkDigest, *, resumed_at: int | None, verified: bool
) -> ArchivedPlain:
    return ArchivedPlain(
        to=to,
        archive=stream.manifest.archive,
        kind=stream.manifest.kind,
        point=stream.manifest.name,
        seqno=stream.manifest.point.seqno,
        stream_bytes=stream.length_bytes,
        stored_bytes=digest.stored_bytes,
        sha256=digest.sha256,
        resumed_at_bytes=resumed_at,
        verified=verified,
    )

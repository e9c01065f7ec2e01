"""What an archive is: the first member of its stream, and a part of each index.

Source: docs/tape-format.md, section on the manifest.
"""

from __future__ import annotations

from typing import Any

import msgspec

from vsnapfs.core.documents import from_json
from vsnapfs.core.errors import FormatUnknownError, IntegrityError
from vsnapfs.core.model import Point
from vsnapfs.core.tapes import ArchiveKind

FORMAT = 1
MANIFEST = "MANIFEST.json"
SUMS = "SHA256SUMS"


class ManifestVolume(msgspec.Struct, frozen=True, kw_only=True):
    """A volume of an archive."""

    name: str
    id: int
    size_bytes: int
    block_bytes: int
    """What it looks like to its users: 512 or 4096."""
    stored_bytes: int
    """Of its runs that are on tape."""
    changed_bytes: int
    """Of its runs, those too that became zeros. Of a full archive the same as stored_bytes."""
    mtime_ns: int
    """Of its last write."""


class MadeFrom(msgspec.Struct, frozen=True, kw_only=True):
    """An archive that a synthetic one was made from."""

    archive: str
    """Its uuid."""
    sums_sha256: str
    """SHA-256 of its SHA256SUMS; empty: those could not be read."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """One archive."""

    format: int
    archive: str
    """Its uuid."""
    repository: str
    """The uuid of the repository."""
    made: str
    """When it was begun, ISO-8601 UTC."""
    kind: ArchiveKind
    name: str
    """The directory that the members are in: the bookmark's name, or ``@seqno``."""
    point: Point
    bookmark: dict[str, Any] | None
    """The bookmark as MANIFEST.json of the tree has it; None: the point had no name."""
    since: Point | None
    """The point that an incremental one goes on from."""
    parent: str | None
    """The uuid of the archive of that point; None: nobody knows one."""
    volumes: tuple[ManifestVolume, ...]
    made_from: tuple[MadeFrom, ...] = ()
    """Of a synthetic full archive: the chain that it was made from, the full one first."""


def encode_manifest(manifest: Manifest) -> bytes:
    """The bytes of MANIFEST.json: the same for equal manifests."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def decode_manifest(content: bytes | bytearray | memoryview) -> Manifest:
    """Raises: IntegrityError: it is none. FormatUnknownError: of a newer version."""
    try:
        manifest = from_json(bytes(content), Manifest)
    except msgspec.DecodeError as error:
        raise IntegrityError(f"{MANIFEST} of an archive cannot be read: {error}") from error
    if manifest.format > FORMAT:
        raise FormatUnknownError(f"the archive is of format {manifest.format}, and this version knows {FORMAT}")
    return manifest


def directory_of(point: Point) -> str:
    """The directory in the stream that a point's members are in."""
    return point.bookmark if point.bookmark is not None else f"@{point.seqno}"

"""The index: the tape file behind each piece, which says what that is and what each part of it should read as.

Source: docs/tape-format.md, section on the index.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator
from typing import Literal

import msgspec

from vsnapfs.archive.extents import Extents
from vsnapfs.archive.manifest import Manifest
from vsnapfs.archive.stream import VolumeMap
from vsnapfs.binding import CRC_BYTES, chunk_crcs
from vsnapfs.core.documents import from_json
from vsnapfs.core.errors import FormatUnknownError, IntegrityError, UsageError
from vsnapfs.core.model import Point
from vsnapfs.core.tapes import ArchiveKind
from vsnapfs.core.times import parse_iso

MAGIC = b"vsnapfs index "
FORMAT = 1
CHUNK_BYTES = 65536
Compression = Literal["zstd"]
Encryption = Literal["age"]


class DamagedIndexError(IntegrityError):
    """A tape file that is no index, or not as it was written."""


class PieceBefore(msgspec.Struct, frozen=True, kw_only=True):
    """Where the piece before this one is."""

    tape: str
    """Its label."""
    tape_uuid: str
    file: int
    sha256: str


class IndexMap(msgspec.Struct, frozen=True, kw_only=True):
    """The runs of a volume that an archive has, each list as ``Extents.encode`` writes it."""

    data: str
    """Stored, one after the other."""
    zeros: str = ""
    """Of an incremental archive: became zeros."""


class PieceIndex(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One piece. ``stored_bytes``, ``sha256`` and ``crc32c`` speak of what is on the tape, compressed or encrypted."""

    archive: str
    repository: str
    kind: ArchiveKind
    point: Point
    since: Point | None
    parent: str | None
    made: str
    piece: int
    """From 0."""
    pieces: int | None
    """How many there are; known on the last."""
    last: bool
    tape: str
    """The label of the tape that it was written on."""
    tape_uuid: str
    file: int
    """The number of the piece's tape file; the index has the next."""
    stream_offset: int
    stream_bytes: int
    """Of the stream; the headers that a continuation begins with are no part of it."""
    head_bytes: int
    """Of those headers; 0: none."""
    plain_bytes: int
    """head_bytes + stream_bytes: before compression and encryption."""
    stored_bytes: int
    continues: str | None
    """The member that it begins within; None: it begins between two."""
    compression: Compression | None
    encryption: Encryption | None
    sha256: str
    chunk_bytes: int
    crc32c: str
    """Of each chunk of what is stored, the last of which may be shorter: base64 of little-endian u32."""
    previous: PieceBefore | None
    manifest: Manifest
    layout: str
    """SHA-256 of all that is not data of the stream: what a resume knows it by."""
    digests: dict[str, str]
    """SHA-256 of the members that end in this piece or before, by the names of SHA256SUMS."""
    maps: dict[str, IndexMap] | None = None
    """By volume; in the first index and the last."""
    sums: str | None = None
    """SHA256SUMS again; in the last index."""


def encode(index: PieceIndex) -> bytes:
    """The tape file: a line with a digest, and JSON."""
    body = msgspec.json.encode(index)
    return MAGIC + f"{FORMAT} {hashlib.sha256(body).hexdigest()}\n".encode() + body


def decode(content: bytes | bytearray | memoryview) -> PieceIndex:
    """Zeros behind it are what a drive's last block was filled up with.

    Raises: DamagedIndexError. FormatUnknownError: of a newer version.
    """
    line, newline, body = bytes(content).rstrip(b"\0").partition(b"\n")
    words = line.removeprefix(MAGIC).split(b" ")
    if not newline or not line.startswith(MAGIC) or len(words) != 2 or not words[0].isdigit():
        raise DamagedIndexError("a tape file is no index")
    if int(words[0][:9]) > FORMAT:
        raise FormatUnknownError(f"an index is of format {int(words[0][:9])}, and this version knows {FORMAT}")
    if words[0] != b"%d" % FORMAT or hashlib.sha256(body).hexdigest().encode() != words[1]:
        raise DamagedIndexError("an index does not match its digest")
    try:
        return _checked(from_json(body, PieceIndex))
    except msgspec.DecodeError as error:
        raise DamagedIndexError(f"an index cannot be read: {error}") from error


def _checked(index: PieceIndex) -> PieceIndex:
    sizes = (index.stream_offset, index.stream_bytes, index.head_bytes, index.stored_bytes, index.piece, index.file)
    if min(sizes) < 0 or index.chunk_bytes <= 0 or index.plain_bytes != index.head_bytes + index.stream_bytes:
        raise DamagedIndexError("the figures of an index contradict each other")
    said = (index.archive, index.repository, index.kind)
    if said != (index.manifest.archive, index.manifest.repository, index.manifest.kind):
        raise DamagedIndexError("an index and its manifest are of two archives")
    try:
        parse_iso(index.made)
    except UsageError as error:
        raise DamagedIndexError(f"an index was made at {index.made[:40]!r}, which is no time") from error
    if len(crcs_of(index)) != -(-index.stored_bytes // index.chunk_bytes) * CRC_BYTES:
        raise DamagedIndexError("an index has not a checksum for each chunk")
    return index


def crcs_of(index: PieceIndex) -> bytes:
    """``crc32c`` as ``chunk_crcs`` gives it. Raises: DamagedIndexError."""
    try:
        return base64.b64decode(index.crc32c, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DamagedIndexError(f"the checksums of an index cannot be read: {error}") from error


def encode_maps(maps: dict[str, VolumeMap]) -> dict[str, IndexMap]:
    """As an index has them."""
    return {name: IndexMap(data=each.data.encode(), zeros=each.zeros.encode()) for name, each in maps.items()}


def decode_maps(maps: dict[str, IndexMap]) -> dict[str, VolumeMap]:
    """Raises: IntegrityError."""
    return {name: VolumeMap(Extents.decode(each.data), Extents.decode(each.zeros)) for name, each in maps.items()}


class ChunkDigest:
    """Checksums of chunks, and SHA-256, of a run of bytes that comes in any lengths."""

    def __init__(self, chunk_bytes: int = CHUNK_BYTES) -> None:
        self.stored_bytes = 0
        self._chunk_bytes = chunk_bytes
        self._hash = hashlib.sha256()
        self._crcs = bytearray()
        self._rest = bytearray()
        """The beginning of a chunk that is not whole yet."""

    def update(self, content: memoryview) -> None:
        self._hash.update(content)
        self.stored_bytes += len(content)
        if self._rest:
            needed = self._chunk_bytes - len(self._rest)
            self._rest += content[:needed]
            content = content[needed:]
            if len(self._rest) < self._chunk_bytes:
                return
            self._crcs += chunk_crcs(self._rest, self._chunk_bytes)
            self._rest.clear()
        whole = len(content) // self._chunk_bytes * self._chunk_bytes
        if whole:
            self._crcs += chunk_crcs(content[:whole], self._chunk_bytes)
        self._rest += content[whole:]

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def crc32c(self) -> str:
        """Of all so far, as an index has them."""
        last = chunk_crcs(self._rest, self._chunk_bytes) if self._rest else b""
        return base64.b64encode(bytes(self._crcs) + last).decode("ascii")


def damaged_chunks(content: memoryview, crcs: bytes, first: int, chunk_bytes: int) -> Iterator[int]:
    """The numbers of the chunks of a run that do not match. content: from chunk ``first`` on, whole ones but for a piece's last."""
    got = chunk_crcs(content, chunk_bytes)
    wanted = crcs[first * CRC_BYTES : first * CRC_BYTES + len(got)]
    if got != wanted:
        for at in range(0, len(got), CRC_BYTES):
            if got[at : at + CRC_BYTES] != wanted[at : at + CRC_BYTES]:
                yield first + at // CRC_BYTES

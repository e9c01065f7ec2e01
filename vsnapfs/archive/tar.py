"""Headers of the stream: POSIX tar with pax records, sparse members and continuations as GNU tar has them.

Source: docs/tape-format.md; GNU tar manual, sections on sparse formats and on archives over several volumes.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from vsnapfs.archive.extents import Extents
from vsnapfs.core.errors import IntegrityError

UNIT_BYTES = 512
END = bytes(2 * UNIT_BYTES)
MODE = 0o444
NAME_BYTES_MAX = 100
"""Of a header without a prefix; real names stand in pax records."""
PAX_BYTES_MAX = 1 << 20
"""Ours have a few hundred; whoever claims more is damaged."""
LINE_BYTES_MAX = 20
SIZE_MAX = 2**63 - 1
_SPARSE = "GNU.sparse."
_VOLUME = "GNU.volume."

ReadExactly = Callable[[int], bytes]
"""So many bytes of the stream. Raises IntegrityError where it ends before."""


class Continuation(NamedTuple):
    """What a piece begins with that begins within a member."""

    name: str
    left_bytes: int
    """Of the member's stored data, from here on."""
    offset_bytes: int
    """Its real size less those."""


class MemberHead(NamedTuple):
    """What stands before a member's data."""

    name: str
    stored_bytes: int
    """Of the data that follow, without padding."""
    real_bytes: int
    """Of the file as it is extracted."""
    map: Extents | None
    """What the data are, of a sparse member; None: they are the file."""
    head_bytes: int
    """What was read of the stream."""
    mtime_s: int


def padded(length_bytes: int) -> int:
    """Up to the next unit."""
    return -(-length_bytes // UNIT_BYTES) * UNIT_BYTES


def plain_head(name: str, size_bytes: int, mtime_s: int) -> bytes:
    """Before the data of a plain member."""
    return _header(name, size_bytes, mtime_s)


def sparse_head(name: str, real_bytes: int, extents: Extents, mtime_s: int) -> bytes:
    """Before the data of a sparse member (GNU's pax format 1.0): headers and map."""
    sparse_map = _map_text(real_bytes, extents)
    directory, _, base = name.rpartition("/")
    records = {
        f"{_SPARSE}major": "1",
        f"{_SPARSE}minor": "0",
        f"{_SPARSE}name": name,
        f"{_SPARSE}realsize": str(real_bytes),
    }
    shown = f"{directory}/GNUSparseFile.0/{base}"[:NAME_BYTES_MAX]
    return _header(shown, len(sparse_map) + extents.stored_bytes, mtime_s, records) + sparse_map


def continuation_head(continued: Continuation, number: int, mtime_s: int) -> bytes:
    """What piece ``number`` (from 0) begins with, which begins within a member."""
    records = {
        f"{_VOLUME}filename": continued.name,
        f"{_VOLUME}size": str(continued.left_bytes),
        f"{_VOLUME}offset": str(continued.offset_bytes),
    }
    shown = f"GNUFileParts/{continued.name}"[: NAME_BYTES_MAX - 8] + f".{number}"
    return tarfile.TarInfo.create_pax_global_header(records) + _header(shown, continued.left_bytes, mtime_s)


def _header(name: str, size_bytes: int, mtime_s: int, records: dict[str, str] | None = None) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size_bytes
    member.mtime = mtime_s
    member.mode = MODE
    member.pax_headers = records or {}
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


def _map_text(real_bytes: int, extents: Extents) -> bytes:
    """Decimal lines, padded. An empty run at the end gives the file its size where it ends in a hole."""
    ends = [] if extents.end_bytes == real_bytes and len(extents) else [(real_bytes, 0)]
    lines = [str(len(extents) + len(ends))]
    for offset_bytes, length_bytes in (*extents, *ends):
        lines += [str(offset_bytes), str(length_bytes)]
    text = "\n".join([*lines, ""]).encode("ascii")
    return text.ljust(padded(len(text)), b"\0")


def read_head(read: ReadExactly) -> MemberHead | Continuation | None:
    """What stands at the beginning of a member, or of a piece that goes on with one; None: the end of the stream.

    Raises: IntegrityError: it is nothing of the kind, or ends before.
    """
    reader = _Counted(read)
    records: dict[str, str] = {}
    continued: Continuation | None = None
    while True:
        block = reader(UNIT_BYTES)
        if block == bytes(UNIT_BYTES):
            return None
        info = _parsed(block)
        if info.type in (tarfile.XHDTYPE, tarfile.XGLTYPE):
            found = _records(reader, info.size)
            if info.type == tarfile.XHDTYPE:
                records |= found
            else:
                continued = _continuation(found)
        elif info.type == tarfile.REGTYPE:
            return continued if continued is not None else _member(reader, info, records)
        else:
            raise IntegrityError(f"a tar header of type {info.type!r} is none of an archive of ours")


class _Counted:
    """Counts what is read."""

    def __init__(self, read: ReadExactly) -> None:
        self._read = read
        self.bytes = 0

    def __call__(self, length_bytes: int) -> bytes:
        self.bytes += length_bytes
        return self._read(length_bytes)


def _parsed(block: bytes) -> tarfile.TarInfo:
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    except (tarfile.HeaderError, ValueError) as error:
        raise IntegrityError(f"a tar header is damaged: {error}") from error


def _records(read: ReadExactly, size_bytes: int) -> dict[str, str]:
    """``LENGTH KEY=VALUE\\n`` each, LENGTH over all of it."""
    if not 0 <= size_bytes <= PAX_BYTES_MAX:
        raise IntegrityError(f"pax records of {size_bytes} bytes are none of ours")
    content = read(padded(size_bytes))[:size_bytes]
    found: dict[str, str] = {}
    while content:
        length, _, _ = content.partition(b" ")
        record = content[: _number(length)]
        if len(record) <= len(length) + 1 or not record.endswith(b"\n"):
            raise IntegrityError("a pax record is damaged")
        key, equals, value = record[len(length) + 1 : -1].partition(b"=")
        try:
            found[key.decode()] = value.decode()
        except UnicodeDecodeError as error:
            raise IntegrityError("a pax record is damaged") from error
        if not equals:
            raise IntegrityError("a pax record is damaged")
        content = content[len(record) :]
    return found


def _continuation(records: dict[str, str]) -> Continuation:
    try:
        name, left, offset = (records[f"{_VOLUME}{key}"] for key in ("filename", "size", "offset"))
    except KeyError as error:
        raise IntegrityError(f"a continuation lacks {error}") from error
    return Continuation(name, _number(left.encode()), _number(offset.encode()))


def _member(read: _Counted, info: tarfile.TarInfo, records: dict[str, str]) -> MemberHead:
    size_bytes = _number(records["size"].encode()) if "size" in records else info.size
    if size_bytes < 0:
        raise IntegrityError("a member's size is negative")
    mtime_s = int(info.mtime)
    if f"{_SPARSE}major" not in records:
        return MemberHead(records.get("path", info.name), size_bytes, size_bytes, None, read.bytes, mtime_s)
    if (records[f"{_SPARSE}major"], records.get(f"{_SPARSE}minor")) != ("1", "0"):
        raise IntegrityError("a sparse member of another format than 1.0 is none of ours")
    try:
        name, real_bytes = records[f"{_SPARSE}name"], _number(records[f"{_SPARSE}realsize"].encode())
    except KeyError as error:
        raise IntegrityError(f"a sparse member lacks {error}") from error
    before = read.bytes
    extents = _read_map(read, real_bytes, size_bytes)
    stored_bytes = size_bytes - (read.bytes - before)
    if stored_bytes != extents.stored_bytes:
        raise IntegrityError(f"the map of {name} speaks of {extents.stored_bytes} bytes, its header of {stored_bytes}")
    return MemberHead(name, stored_bytes, real_bytes, extents, read.bytes, mtime_s)


def _read_map(read: ReadExactly, real_bytes: int, size_bytes: int) -> Extents:
    numbers = _numbers(read, size_bytes)
    extents = Extents()
    for _ in range(next(numbers)):
        offset_bytes, length_bytes = next(numbers), next(numbers)
        if offset_bytes + length_bytes > real_bytes or offset_bytes < extents.end_bytes:
            raise IntegrityError("the map of a sparse member is damaged")
        if length_bytes:
            extents.add(offset_bytes, length_bytes)
    return extents


def _numbers(read: ReadExactly, size_bytes: int) -> Iterator[int]:
    """The decimal lines of a map; a unit is read when it is needed."""
    left, unread = size_bytes, b""
    while True:
        line, newline, rest = unread.partition(b"\n")
        if newline:
            unread = rest
            yield _number(line)
        elif len(unread) > LINE_BYTES_MAX or left < UNIT_BYTES:
            raise IntegrityError("the map of a sparse member is damaged")
        else:
            unread += read(UNIT_BYTES)
            left -= UNIT_BYTES


def _number(text: bytes) -> int:
    if not text.isdigit() or len(text) > LINE_BYTES_MAX or int(text) > SIZE_MAX:
        raise IntegrityError(f"{text[:LINE_BYTES_MAX]!r} is no number")
    return int(text)


def sums_line(digest: str, name: str) -> str:
    """As sha256sum(1) writes it; our names need no escapes."""
    return f"{digest}  {name}\n"


def parse_sums(content: bytes) -> dict[str, str]:
    """Digest by name of SHA256SUMS. Raises: IntegrityError."""
    found: dict[str, str] = {}
    for line in content.decode("utf-8", "replace").splitlines():
        digest, apart, name = line.partition("  ")
        if not apart or len(digest) != len(_DIGEST) or set(digest) - set("0123456789abcdef"):
            raise IntegrityError(f"{line[:80]!r} is no line of SHA256SUMS")
        found[name] = digest
    return found


def sums_bytes(names: Iterable[str]) -> int:
    """How long SHA256SUMS of these is, whatever the digests."""
    return sum(len(sums_line(_DIGEST, name).encode()) for name in names)


_DIGEST = "0" * 64

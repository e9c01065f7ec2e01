"""The write that a hunt ended at: what it changed, byte for byte, and which file it belongs to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from vsnapfs.core.errors import PointGoneError, VsnapfsError
from vsnapfs.core.hunt import HuntFile, HuntWrite
from vsnapfs.core.times import iso
from vsnapfs.hunt.files import files_at
from vsnapfs.repository.repository import Repository

COMPARED_BYTES_MAX = 64 << 20
"""Of a discard, which may be as long as the volume."""
PIECE_BYTES = 1 << 20
ROW_BYTES = 16
ROWS_MAX = 16


class Difference(NamedTuple):
    """changed_bytes of the first compared_bytes; lines of the first rows that differ."""

    changed_bytes: int
    compared_bytes: int
    lines: list[str]


def describe(
    repository: Repository, names: dict[int, str], good: int, bad: int, top: Path, directory: Path
) -> HuntWrite:
    """What the record ``bad`` did, where ``good`` is the last state before it.

    Args: names: of the hunt's volumes, by id. top: a branch of ``bad``, its volumes in a directory. directory: to mount one on.
    Raises: PointGoneError: records between the two are not there any more.
    """
    record = repository.write_record(bad)
    name = names[record.volume]
    try:
        before_point, after_point = repository.resolve(f"@{bad - 1}"), repository.resolve(f"@{bad}")
    except PointGoneError as error:
        why = f"of the records between @{good} and @{bad} not all are there any more, so it may have been another than @{bad}"
        raise PointGoneError(why, seqno=bad) from error
    with repository.view(name, before_point) as before, repository.view(name, after_point) as after:
        end = min(record.offset_bytes + record.length_bytes, after.size_bytes)
        found = difference(
            ((before.read(at, n), after.read(at, n), at) for at, n in _pieces(record.offset_bytes, end)),
        )
    filesystem, files, problem = "", list[HuntFile](), ""
    try:
        filesystem, files = files_at(top / name, record.offset_bytes, record.length_bytes, directory)
    except VsnapfsError as error:
        problem = str(error)
    return HuntWrite(
        seqno=bad,
        time=iso(record.time_ns),
        time_ns=record.time_ns,
        volume=name,
        offset_bytes=record.offset_bytes,
        length_bytes=record.length_bytes,
        zero=record.zero,
        changed_bytes=found.changed_bytes,
        compared_bytes=found.compared_bytes,
        hex_diff=found.lines,
        filesystem=filesystem,
        files=files,
        files_problem=problem,
    )


def difference(pieces: Iterator[tuple[bytes, bytes, int]]) -> Difference:
    """Of pieces of before and after, each with its offset in the volume, in order. What one has not is zeros."""
    changed = compared = 0
    lines: list[str] = []
    for old, new, offset_bytes in pieces:
        length = max(len(old), len(new))
        before, after = old.ljust(length, b"\0"), new.ljust(length, b"\0")
        compared += length
        if before == after:
            continue
        apart = (int.from_bytes(before) ^ int.from_bytes(after)).to_bytes(length)
        changed += length - apart.count(0)
        lines += _rows(before, after, offset_bytes, ROWS_MAX - len(lines) // 2)
    return Difference(changed, compared, lines)


def _pieces(start: int, end: int) -> Iterator[tuple[int, int]]:
    end = min(end, start + COMPARED_BYTES_MAX)
    for at in range(start, end, PIECE_BYTES):
        yield at, min(PIECE_BYTES, end - at)


def _rows(before: bytes, after: bytes, offset_bytes: int, rows_max: int) -> list[str]:
    """The first rows that differ; they begin at multiples of 16 in the volume."""
    lines: list[str] = []
    at = 0
    while at < len(before) and len(lines) < 2 * rows_max:
        length = ROW_BYTES - (offset_bytes + at) % ROW_BYTES
        old, new = before[at : at + length], after[at : at + length]
        if old != new:
            lines += [f"- {_row(offset_bytes + at, old)}", f"+ {_row(offset_bytes + at, new)}"]
        at += length
    return lines


def _row(offset_bytes: int, content: bytes) -> str:
    text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in content)
    return f"{offset_bytes:012x}  {content.hex(' '):<{3 * ROW_BYTES - 1}}  |{text}|"

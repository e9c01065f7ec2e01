"""The branches of a repository, read by section 11 of native/FORMAT.md alone: the files that say which layers a branch has, and their
logs and data. Of branches that were closed: all that a log has is on the medium.

It goes on where format_repository ends, and knows nothing of the C core.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.format_reader import BLOCK, FormatError, crc32c
from tests.support.format_repository import Repository

HEAD = struct.Struct("<8sII16sIIQQII")
RECORD = struct.Struct("<IIQQIBBH")
WRITE, ZERO, SYNCED = 1, 2, 3
BLOCKS_MAX = 257


@dataclass(frozen=True)
class Log:
    """One volume of one layer. ``after``: the seq before the first record's. ``slots``: by block, and the CRC; slot 0: zeros."""

    after: int
    records: int
    slots: dict[int, tuple[int, int]]


def read_log(content: bytes, uuid: bytes, layer: int, volume: int, size_bytes: int) -> Log:
    """Raises: FormatError."""
    magic, version, features, of, layer_, volume_, size_, after, salt, crc = HEAD.unpack_from(content)
    _need(magic == b"VSNAPBRL" and crc == crc32c(content[:60]), "a head")
    _need((version, features) == (1, 0), "a version")
    _need((of, layer_, volume_, size_) == (uuid, layer, volume, size_bytes), "whose log it is")
    at, seq, through, records = HEAD.size, after, after, 0
    changed = after
    slots: dict[int, tuple[int, int]] = {}
    while at < len(content):
        crc, its_salt, its_seq, first, count, type_, flags, reserved = RECORD.unpack_from(content, at)
        end = at + RECORD.size + (8 * count if type_ == WRITE else 0)
        _need(crc == crc32c(content[at + 4 : end]) and (its_salt, its_seq, reserved) == (salt, seq + 1, 0), "a record")
        if type_ == SYNCED:
            _need((count, flags) == (0, 0) and through <= first <= seq, "what is synced")
            through = first
        else:
            _need(0 < count <= (BLOCKS_MAX if type_ == WRITE else size_bytes) and flags in (0, 1), "a change")
            entries = struct.iter_unpack("<II", content[at + RECORD.size : end]) if type_ == WRITE else [(0, 0)] * count
            slots |= {first + i: (slot, its_crc) for i, (slot, its_crc) in enumerate(entries)}
            changed = its_seq
        at, seq, records = end, its_seq, records + 1
    _need(through >= changed, "an end that is on the medium")
    taken = [slot for slot, _ in slots.values() if slot]
    _need(len(taken) == len(set(taken)), "each block in a slot of its own")
    return Log(after, records, slots)


def branches(repository: Repository) -> Iterator[dict[str, Any]]:
    """What the files of branches say, by name."""
    for file in sorted((repository.path / "branches").glob("*.json")):
        yield json.loads(file.read_text())


def logs(repository: Repository, layer: int) -> dict[int, Path]:
    """By volume id."""
    return {int(file.stem, 16): file for file in (repository.path / f"branches/layers/{layer:08x}").glob("*.log")}


def contents(repository: Repository, branch: dict[str, Any]) -> dict[str, bytes]:
    """What its volumes hold, by name."""
    below = repository.volumes(branch["seqno"])
    found = {}
    for volume in branch["volumes"]:
        size_bytes = volume["size_bytes"]
        content = bytearray(below[volume["name"]].content).ljust(-(-size_bytes // BLOCK) * BLOCK, b"\0")
        for layer in branch["layers"]:
            file = logs(repository, layer).get(volume["id"])
            if file is not None:
                _lay(content, file, read_log(file.read_bytes(), repository.uuid, layer, volume["id"], size_bytes))
        found[volume["name"]] = bytes(content[:size_bytes])
        _need(not any(content[size_bytes:]), "zeros behind the end")
    return found


def _lay(content: bytearray, file: Path, log: Log) -> None:
    data = file.with_suffix(".data").read_bytes()
    for block, (slot, crc) in log.slots.items():
        held = data[(slot - 1) * BLOCK : slot * BLOCK] if slot else bytes(BLOCK)
        _need(crc == (crc32c(held) if slot else 0), f"the CRC of block {block}")
        content[block * BLOCK : (block + 1) * BLOCK] = held


def _need(fits: bool, what: str) -> None:
    if not fits:
        raise FormatError(f"a layer of a branch: {what}")

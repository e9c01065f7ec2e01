"""What the files of branches say: ``branches/NAME.json`` of each, and ``branches/layers/ids.json`` of all.

A branch file comes from anywhere, so nothing of it is believed before it was looked at.

Source: native/FORMAT.md, section on branches.
"""

from __future__ import annotations

import os
from typing import Any

import msgspec

from vsnapfs.core.branch import BranchVolume
from vsnapfs.core.documents import from_json
from vsnapfs.core.errors import FormatUnknownError, IntegrityError, NotFoundError, UsageError, VsnapfsError
from vsnapfs.core.names import check_name
from vsnapfs.core.points import SEQNO_MAX
from vsnapfs.core.times import TIME_NS_MAX
from vsnapfs.repository.layout import BRANCH_IDS, BRANCHES, LAYERS, Layout, branch_file, branch_layer

FORMAT = 1
FILE_BYTES_MAX = 8 << 20
SUFFIX = ".json"
LAYERS_MAX = 64
"""Each is looked into by a read of what was not written after it."""
VOLUME_ID_MAX = (1 << 27) - 1
"""An inode number of the tree has room for a branch's id and so much beside it."""
ID_MAX = (1 << 32) - 1
QUOTA_BYTES_MAX = (1 << 63) - 1


class BranchFile(msgspec.Struct, frozen=True, kw_only=True):
    """The content of ``branches/NAME.json``."""

    format: int
    id: int
    name: str
    source: str
    parent: str | None
    seqno: int
    time_ns: int
    """Of the record ``seqno``."""
    bookmark: str | None
    created_ns: int
    quota_bytes: int | None
    note: str
    report: dict[str, Any] | None
    volumes: list[BranchVolume]
    layers: list[int]
    """The oldest first. The last one is this branch's alone and is written to; the others never change."""

    @property
    def last_layer(self) -> int:
        return self.layers[-1]


class Ids(msgspec.Struct, frozen=True, kw_only=True):
    """The content of ``branches/layers/ids.json``: what no branch and no layer had yet."""

    format: int
    branch: int
    layer: int


class Found(msgspec.Struct, kw_only=True):
    """What lies below ``branches``, by name. broken: why a branch cannot be used; a file that cannot be understood is there alone."""

    files: dict[str, BranchFile] = {}
    broken: dict[str, str] = {}


def read_all(layout: Layout) -> Found:
    """Every branch file. One whose name is no text is told with escapes for it. Raises: StoreError: the directory cannot be read."""
    found = Found()
    for entry in layout.names(BRANCHES):
        name = entry.removesuffix(SUFFIX)
        if name == entry:
            continue
        if name != _text(name):
            found.broken[_text(name)] = f"{layout.absolute(_text(entry))} cannot be the file of a branch"
            continue
        try:
            found.files[name] = read(layout, name)
        except NotFoundError:
            continue  # removed meanwhile
        except VsnapfsError as error:
            found.broken[name] = str(error)
    _set_doubles_aside(found)
    return found


def _text(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def remove(layout: Layout, name: str) -> None:
    """Remove the file of a branch, or what stands in the place of one. Raises: StoreError."""
    entries = [entry for entry in layout.names(BRANCHES) if _text(entry) == name + SUFFIX]
    for entry in entries:
        layout.remove(f"{BRANCHES}/{entry}")


def _set_doubles_aside(found: Found) -> None:
    """Files of which one is a copy of another: nobody knows which of them the layers belong to."""
    owners: dict[tuple[str, int], list[str]] = {}
    for name, file in found.files.items():
        owners.setdefault(("id", file.id), []).append(name)
        for layer in file.layers:
            owners.setdefault(("layer", layer), []).append(name)
    for name, file in found.files.items():
        others = {*owners["id", file.id], *owners["layer", file.last_layer]} - {name}
        if others:
            found.broken[name] = f"{branch_file(name)} claims what {branch_file(min(others))} claims too"


def read(layout: Layout, name: str) -> BranchFile:
    """One branch. Raises: NotFoundError. IntegrityError, FormatUnknownError: no program of ours, or a newer one, wrote it."""
    place = layout.absolute(branch_file(name))
    content = layout.read(branch_file(name), FILE_BYTES_MAX)
    try:
        found = decode(content)
    except (msgspec.DecodeError, UsageError) as error:
        raise IntegrityError(f"{place} cannot be understood: {error}") from error
    except FormatUnknownError as error:
        raise FormatUnknownError(f"{place} is of {error}") from error
    if found.name != name:
        raise IntegrityError(f"{place} is that of another branch, {found.name!r}")
    return found


def decode(content: bytes) -> BranchFile:
    """Raises: msgspec.DecodeError, UsageError: no program of ours wrote it. FormatUnknownError: a newer one did."""
    version = from_json(content, _Version).format
    if version > FORMAT:
        raise FormatUnknownError(f"format {version}, this program knows {FORMAT}", hint="use a newer vsnapfs")
    found = from_json(content, BranchFile)
    check_name(found.name, "branch")
    _in_range("id", found.id, 1, ID_MAX)
    _in_range("seqno", found.seqno, 1, SEQNO_MAX)
    _in_range("time", found.time_ns, 0, TIME_NS_MAX)
    _in_range("time of creation", found.created_ns, 0, TIME_NS_MAX)
    _in_range("quota", 1 if found.quota_bytes is None else found.quota_bytes, 1, QUOTA_BYTES_MAX)
    _in_range("number of layers", len(found.layers), 1, LAYERS_MAX)
    _check_distinct("layer", found.layers)
    for layer in found.layers:
        _in_range("layer", layer, 1, ID_MAX)
    _check_distinct("volume", [volume.id for volume in found.volumes])
    _check_distinct("volume name", [volume.name for volume in found.volumes])
    for volume in found.volumes:
        check_name(volume.name, "volume")
        _in_range("volume", volume.id, 1, VOLUME_ID_MAX)
        _in_range("size", volume.size_bytes, 1, SEQNO_MAX)
    return found


def write(layout: Layout, file: BranchFile) -> None:
    """Make or replace it; after a crash it is the old one or the new one. Raises: NoSpaceError, StoreError."""
    layout.write(branch_file(file.name), encode(file))


def encode(file: BranchFile) -> bytes:
    return msgspec.json.format(msgspec.json.encode(file), indent=2) + b"\n"


def read_ids(layout: Layout, found: Found) -> Ids:
    """The next ids. Where the file is missing or damaged: greater than all that are there."""
    try:
        ids = from_json(layout.read(BRANCH_IDS, FILE_BYTES_MAX), Ids)
    except (NotFoundError, msgspec.DecodeError):
        ids = Ids(format=FORMAT, branch=1, layer=1)
    files = found.files.values()
    layers = [*layers_there(layout), *(layer for file in files for layer in file.layers)]
    return Ids(
        format=FORMAT,
        branch=max([ids.branch, *(file.id + 1 for file in files)]),
        layer=max([ids.layer, *(layer + 1 for layer in layers)]),
    )


def write_ids(layout: Layout, ids: Ids) -> None:
    """Raises: NoSpaceError, StoreError."""
    layout.write(BRANCH_IDS, msgspec.json.encode(ids) + b"\n")


def layers_there(layout: Layout) -> list[int]:
    """The layers that have a directory."""
    return [int(name, 16) for name in layout.names(LAYERS) if _is_layer(name)]


def _is_layer(name: str) -> bool:
    return len(name) == 8 and all(letter in "0123456789abcdef" for letter in name)


def missing_layer(layout: Layout, file: BranchFile) -> str | None:
    """The directory of a layer that is not there."""
    return next((name for layer in file.layers if not layout.exists(name := branch_layer(layer))), None)


class _Version(msgspec.Struct):
    format: int


def _in_range(what: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise UsageError(f"its {what} is {value}")


def _check_distinct(what: str, values: list[Any]) -> None:
    if len(set(values)) != len(values):
        raise UsageError(f"a {what} is named twice")

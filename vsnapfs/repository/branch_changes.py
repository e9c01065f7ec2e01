"""Branches: add, list, open, remove, and what a crash left of them.

A branch is a file, ``branches/NAME.json``, and layers, directories of what was written to it between two moments; the last one is
its own and is written to. A branch of a branch begins with the layers of that one, of which the last never changes again: both
get a new one. So what a crash leaves is at worst a layer that no file names. It is deleted at the next start, unless some
file cannot be understood: that may name it.

The point of a branch is kept by its file alone (roots.kept), which is written with the lock ``change``: either a prune sees it,
or it is refused since its point is going.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import msgspec

from vsnapfs.core.branch import Branch, BranchVolume, source_branch
from vsnapfs.core.errors import BusyError, NameTakenError, UsageError, VsnapfsError
from vsnapfs.core.model import Point
from vsnapfs.core.names import check_name
from vsnapfs.core.times import iso
from vsnapfs.repository import branch_files, branches, events, identity
from vsnapfs.repository.bookmarks import NOTE_LENGTH_MAX, check_text, refuse_going
from vsnapfs.repository.branch_files import FORMAT, LAYERS_MAX, QUOTA_BYTES_MAX, VOLUME_ID_MAX, BranchFile, Ids
from vsnapfs.repository.branch_told import describe
from vsnapfs.repository.branches import find, known, load, opened, require_layers, wait_closed
from vsnapfs.repository.layout import BRANCHES, LAYERS, PART, branch_file, branch_layer
from vsnapfs.repository.parts import Parts
from vsnapfs.repository.resolve import resolve

REPORT_BYTES_MAX = 1 << 20
REPORT_DEPTH_MAX = 100
"""A branch whose file could be written and not be read again would be lost."""


def recover(parts: Parts) -> None:
    """Owner, at a start: know the branches, and delete what a crash left half made or half removed. What cannot be deleted takes room, and
    keeps nobody from starting."""
    load(parts)
    _go_on_where_nothing_was_frozen(parts)
    with suppress(VsnapfsError):
        for directory in (BRANCHES, LAYERS):
            for name in parts.layout.names(directory):
                if name.endswith(PART):
                    parts.layout.remove(f"{directory}/{name}")
        _delete_unnamed(parts)


def _go_on_where_nothing_was_frozen(parts: Parts) -> None:
    """A branch whose new layer is empty may have been about to freeze the one before, which then has no end yet. Unless somebody
    else has that one, it goes on in it: the branch is the same."""
    for file in list(parts.branches.files.values()):
        shared = {layer for other in parts.branches.files.values() if other.id != file.id for layer in other.layers}
        if (
            len(file.layers) > 1
            and file.name not in parts.branches.broken
            and not parts.branches.broken
            and file.layers[-2] not in shared
            and parts.layout.exists(branch_layer(file.last_layer))
            and not parts.layout.names(branch_layer(file.last_layer))
        ):
            with suppress(VsnapfsError):  # where that cannot be written it says so to who opens it; nobody else suffers
                _write(parts, msgspec.structs.replace(file, layers=file.layers[:-1]), file)


def add(parts: Parts, name: str, source: str, quota_bytes: int | None, note: str) -> Branch:
    """Owner: make one. Raises: NameTakenError. NotFoundError: no such source. UsageError: a name, note or size that cannot be.
    BusyError: its point is going. PointGoneError, GapError. IntegrityError: the point or the source is damaged. NoSpaceError, StoreError.
    """
    parts.require_owner()
    check_name(name, "branch")
    check_text("note", note, NOTE_LENGTH_MAX)
    if quota_bytes is not None and not 0 < quota_bytes <= QUOTA_BYTES_MAX:
        raise UsageError(f"a quota of {quota_bytes} bytes", hint="leave it out for a branch without one")
    with parts.branches.changing, _tidied(parts):
        _refuse_taken(parts, name)
        parent = source_branch(source)
        made = _add_on_point(parts, name, source) if parent is None else _add_on_branch(parts, name, source, parent)
        branches.require_volumes(parts, made)
        made = msgspec.structs.replace(made, quota_bytes=quota_bytes, note=note)
        with parts.change:
            refuse_going(parts, made.seqno)
            _write(parts, made, None)
    detail = {
        "source": source,
        "seqno": made.seqno,
        "time": iso(made.time_ns),
        "quota_bytes": quota_bytes,
        "note": note,
    }
    events.tell(parts, "branch_added", name, **detail)
    return describe(parts, made)


def remove(parts: Parts, name: str) -> None:
    """Owner: delete it and all that no other branch needs. Raises: NotFoundError. BusyError: it is open."""
    parts.require_owner()
    named = parts.branches.files.get(name)  # another may remove it meanwhile
    if named is not None:
        wait_closed(parts, named)
    with parts.branches.changing, _tidied(parts):
        there = known(parts)
        file = there.files.get(name) if name in there.broken else find(parts, name)
        if file is None:
            branch_files.remove(parts.layout, name)
            load(parts)
        else:
            _remove(parts, file)
    events.tell(parts, "branch_removed", name)


def _remove(parts: Parts, file: BranchFile) -> None:
    with parts.branches.going(file.id, branches.CLOSE_WAIT_S) as in_use:
        if in_use:
            raise BusyError(f"branch {file.name} is in use", hint="close its files first")
        parts.layout.remove(branch_file(file.name))
        if file.name in parts.branches.broken:
            load(parts)  # another may be sound now
        else:
            parts.branches.drop(file.name)


def report(parts: Parts, name: str, said: dict[str, Any]) -> Branch:
    """Owner: keep a report with it, in place of the one before. Raises: NotFoundError. UsageError: too long, or nested too deeply."""
    parts.require_owner()
    if _is_deeper(said, REPORT_DEPTH_MAX):
        raise UsageError("the report is nested too deeply", hint=f"at most {REPORT_DEPTH_MAX} levels are kept")
    if len(msgspec.json.encode(said)) > REPORT_BYTES_MAX:
        raise UsageError("the report is too long", hint=f"at most {REPORT_BYTES_MAX} bytes are kept")
    with parts.branches.changing:
        file = msgspec.structs.replace(find(parts, name), report=said)
        branch_files.write(parts.layout, file)
        parts.branches.put(file)
    return describe(parts, file)


def _is_deeper(value: Any, levels_max: int) -> bool:
    level = [value]
    for _ in range(levels_max):
        inner = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list)]
        level = [each for values in inner for each in values]
    return any(isinstance(each, dict | list) for each in level)


def _refuse_taken(parts: Parts, name: str) -> None:
    if name in parts.branches.files or name in parts.branches.broken:
        raise NameTakenError(f"there is a branch {name!r} already", hint="choose another name, or remove that one")


def _add_on_point(parts: Parts, name: str, source: str) -> BranchFile:
    """The file of a branch on a point, not yet written; its layer is there."""
    point = resolve(parts, source, time.time_ns())
    branch_id, layer = _take_ids(parts, 1)
    return BranchFile(
        format=FORMAT,
        id=branch_id,
        name=name,
        source=source,
        parent=None,
        seqno=point.seqno,
        time_ns=point.time_ns,
        bookmark=point.bookmark,
        created_ns=time.time_ns(),
        quota_bytes=None,
        note="",
        report=None,
        volumes=_volumes_at(parts, point),
        layers=[layer],
    )


def _volumes_at(parts: Parts, point: Point) -> list[BranchVolume]:
    found = []
    for entry in parts.entries(point.seqno):
        state = parts.state_at(entry.id, point.seqno)
        if state is not None:
            found.append(BranchVolume(name=entry.name, id=entry.id, size_bytes=state.size_bytes))
    if not found:
        raise UsageError(f"no volume stood at @{point.seqno}", hint="there is nothing to branch from")
    if any(volume.id > VOLUME_ID_MAX for volume in found):
        raise UsageError(f"there are volumes with ids over {VOLUME_ID_MAX}", hint="branches cannot show them")
    return found


def _add_on_branch(parts: Parts, name: str, source: str, parent: str) -> BranchFile:
    """The file of a branch of a branch, not yet written. What the parent had by then is in layers that never change."""
    below = find(parts, parent)
    require_layers(parts, below)
    if parts.layout.names(branch_layer(below.last_layer)):
        branch_id, own, layer = _take_ids(parts, 2)
        below = _frozen(parts, below, own)
    else:  # nobody has written to it since the branch before was made
        branch_id, layer = _take_ids(parts, 1)
    return msgspec.structs.replace(
        below,
        id=branch_id,
        name=name,
        source=source,
        parent=parent,
        created_ns=time.time_ns(),
        report=None,
        layers=[*below.layers[:-1], layer],
    )


def _frozen(parts: Parts, file: BranchFile, layer: int) -> BranchFile:
    """Have a branch go on in a new layer. Its file says so first: what is written to a layer that no file names would be lost. A file
    that names one to which nothing was written yet is right too."""
    if len(file.layers) == LAYERS_MAX:
        raise BusyError(
            f"branch {file.name} has {LAYERS_MAX} layers",
            hint="make it from a branch or point with fewer; remove what is not needed",
        )
    with opened(parts, file) as branch:
        branch.sync()  # writes are held for what is written from here on alone
        frozen = msgspec.structs.replace(file, layers=[*file.layers, layer])
        _write(parts, frozen, file)
        try:
            branch.freeze(layer)
        except VsnapfsError as error:
            parts.branches.put(file)
            _take_back(parts, file.name, file, error)
            raise
        branch.go_on()
    return frozen


def _write(parts: Parts, file: BranchFile, before: BranchFile | None) -> None:
    """Have a branch's file say so; if that fails, what it said before (None: there was none). It may have failed with the new file in its
    place already, which names a layer that is about to be deleted."""
    try:
        branch_files.write(parts.layout, file)
    except VsnapfsError as error:
        _take_back(parts, file.name, before, error)
        raise
    parts.branches.put(file)


def _take_back(parts: Parts, name: str, before: BranchFile | None, why: VsnapfsError) -> None:
    """Have a branch's file say what it said before: the branch goes on in the layer that it has. Where that fails too it is right again at
    the next start; until then nobody may take that layer for one that does not change, and no layer is deleted."""
    try:
        if before is None:
            parts.layout.remove(branch_file(name))
        elif branch_files.read(parts.layout, name) != before:
            branch_files.write(parts.layout, before)
    except VsnapfsError:
        what = f"{branch_file(name)} could neither be written ({why}) nor put back"
        parts.branches.spoil(name, f"{what}; the next start of the server mends it")
        raise


def _take_ids(parts: Parts, layers: int) -> tuple[int, ...]:
    """An id for a branch, and new empty layers. None of them was ever used before."""
    layout = parts.layout
    if not layout.exists(LAYERS):
        identity.add_feature(layout, identity.BRANCHES)
        for directory in (BRANCHES, LAYERS):
            if not layout.exists(directory):
                layout.make_directory(directory)
                layout.sync(os.path.dirname(directory))
    ids = branch_files.read_ids(layout, known(parts))
    branch_files.write_ids(layout, Ids(format=FORMAT, branch=ids.branch + 1, layer=ids.layer + layers))
    taken = range(ids.layer, ids.layer + layers)
    for layer in taken:
        layout.make_directory(branch_layer(layer))
    layout.sync(LAYERS)
    return ids.branch, *taken


@contextmanager
def _tidied(parts: Parts) -> Iterator[None]:
    """Delete layers that no branch needs after the block, however it ends."""
    try:
        yield
    finally:
        _delete_unnamed(parts)


def _delete_unnamed(parts: Parts) -> None:
    """Layers that no branch needs; none while a file cannot be understood, which may name it."""
    if parts.branches.broken:
        return
    named = {layer for file in parts.branches.files.values() for layer in file.layers}
    for layer in branch_files.layers_there(parts.layout):
        if layer not in named:
            parts.layout.remove_directory(branch_layer(layer))

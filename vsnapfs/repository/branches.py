"""Branches of an open repository: what their files say, and how they are opened.

Source: vsnapfs/repository/branch_changes.py for what they consist of.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from vsnapfs.binding import View, VolumeFile
from vsnapfs.binding.branch import Branch as OpenBranch
from vsnapfs.core.branch import BranchPlace, BranchVolume
from vsnapfs.core.errors import IntegrityError, NotFoundError, VsnapfsError
from vsnapfs.core.names import near
from vsnapfs.core.times import iso
from vsnapfs.repository import branch_files
from vsnapfs.repository.branch_files import BranchFile, Found
from vsnapfs.repository.layout import branch_layer
from vsnapfs.repository.parts import Parts
from vsnapfs.repository.reading import view_of

CLOSE_WAIT_S = 2.0
"""The kernel tells of the last close in its own time."""
CLOSE_POLL_S = 0.02
RESERVES = 2
"""So many times what the journal leaves free a branch does: it ends before the journal has to."""


def load(parts: Parts) -> None:
    """Know what the files say now."""
    parts.branches.load(branch_files.read_all(parts.layout))


def places(parts: Parts) -> list[BranchPlace]:
    """Those that can be used, by name, as their files say; none is opened."""
    there = known(parts)
    return [
        BranchPlace(
            name=file.name,
            id=file.id,
            seqno=file.seqno,
            time=iso(file.time_ns),
            created_ns=file.created_ns,
            volumes=tuple(file.volumes),
        )
        for name, file in sorted(there.files.items())
        if name not in there.broken
    ]


def volume_file(parts: Parts, name: str, volume: str, branch_id: int | None) -> VolumeFile:
    """An open file on a volume of a branch, for the plane; of the owner's. Raises: NotFoundError. IntegrityError: the branch is
    damaged. BusyError: it is ``still``."""
    file = find(parts, name)
    if branch_id not in (None, file.id):
        raise NotFoundError(f"branch {name!r} is another by now")
    return parts.branches.file(file.id, lambda: _open(parts, name, file.id), volume_of(file, volume).id)


@contextmanager
def still(parts: Parts, file: BranchFile, what: str) -> Iterator[None]:
    """Owner: the branch stays as it is as long as the block lasts: nobody has a file of it open, or gets one. Raises: BusyError."""
    wait_closed(parts, file)
    with parts.branches.still(file, what):
        yield


def wait_closed(parts: Parts, file: BranchFile) -> None:
    """Who has just closed the last file of it need not be told that it is open."""
    until_s = time.monotonic() + CLOSE_WAIT_S
    while parts.branches.in_use(file.id) and time.monotonic() < until_s:
        time.sleep(CLOSE_POLL_S)


def changed_ns(parts: Parts, name: str, volume: str) -> int:
    """When a volume of it was last written to, by the clock of then; when the branch was made, if it never was."""
    file = find(parts, name)
    written = f"{volume_of(file, volume).id:08x}.log"
    for layer in reversed(file.layers):
        found = parts.layout.stat(f"{branch_layer(layer)}/{written}")
        if found is not None:
            return found.st_mtime_ns
    return file.created_ns


def allocated_bytes(parts: Parts) -> int:
    """Of disk that all layers take."""
    return sum(parts.layout.allocated_bytes(branch_layer(layer)) for layer in branch_files.layers_there(parts.layout))


def problems(parts: Parts) -> list[str]:
    """Why some cannot be opened, as far as that can be told without opening them."""
    there = known(parts)
    told = list(there.broken.values())
    sound = [file for name, file in there.files.items() if name not in there.broken]
    return told + [why for file in sound if (why := _lacks(parts, file)) is not None]


def require_points_known(parts: Parts) -> None:
    """Raises: IntegrityError: a branch file cannot be understood. Nobody knows which point that branch stands on, so all have to stay."""
    there = known(parts)
    for name, why in sorted(there.broken.items()):
        if name not in there.files:
            raise IntegrityError(
                f"{why}; nobody knows which point branch {name} keeps, so all of them stay",
                hint=f"put that file back from a copy, or give the branch up: `vsnapfs branch remove {name}`",
            )


@contextmanager
def opened(parts: Parts, file: BranchFile) -> Iterator[OpenBranch]:
    """The branch, open; in the owner all share one. Raises: NotFoundError: removed. IntegrityError: it is damaged."""
    if not parts.owner:
        with _open(parts, file.name, file.id) as branch:
            yield branch
        return
    with parts.branches.opened(file.id, lambda: _open(parts, file.name, file.id)) as branch:
        yield branch


def known(parts: Parts) -> Found:
    """What the files say. A reader looks at the files each time: the owner may be another process."""
    if not parts.owner:
        load(parts)
    return Found(files=dict(parts.branches.files), broken=dict(parts.branches.broken))


def find(parts: Parts, name: str) -> BranchFile:
    """What its file says. Raises: NotFoundError with names that look like it. IntegrityError: it is damaged."""
    there = known(parts)
    if name in there.broken:
        raise IntegrityError(there.broken[name], hint=f"`vsnapfs branch remove {name}` gives it up")
    if name not in there.files:
        raise NotFoundError(f"there is no branch {name!r}", near=near(name, there.files))
    return there.files[name]


def _open(parts: Parts, name: str, branch_id: int) -> OpenBranch:
    file = find(parts, name)
    if file.id != branch_id:
        raise NotFoundError(f"branch {name!r} was removed")
    try:
        branch = _open_as(parts, file)
    except VsnapfsError as error:
        if not _is_there(parts, file):
            raise NotFoundError(f"branch {name!r} was removed") from error
        raise
    if not _is_there(parts, file):  # what was opened may have been half deleted
        branch.close()
        raise NotFoundError(f"branch {name!r} was removed")
    return branch


def _is_there(parts: Parts, file: BranchFile) -> bool:
    """It was not removed meanwhile. A branch goes before its layers do."""
    now = known(parts).files.get(file.name)
    return now is not None and now.id == file.id


def _open_as(parts: Parts, file: BranchFile) -> OpenBranch:
    require_layers(parts, file)
    disk = os.fstatvfs(parts.layout.fd)
    reserve_bytes = RESERVES * parts.settings.journal.reserve_bytes(disk.f_blocks * disk.f_frsize)
    branch = OpenBranch(
        parts.journal, quota_bytes=file.quota_bytes or 0, reserve_bytes=reserve_bytes, writable=parts.owner
    )
    try:
        for volume in file.volumes:
            below = _below(parts, file, volume)
            try:
                branch.volume(volume.id, below, file.layers)
            except BaseException:
                below.close()
                raise
    except BaseException:
        branch.close()
        raise
    return branch


def require_volumes(parts: Parts, file: BranchFile) -> None:
    """Raises: IntegrityError: what it stands on cannot be read."""
    for volume in file.volumes:
        _below(parts, file, volume).close()


def require_layers(parts: Parts, file: BranchFile) -> None:
    """Raises: IntegrityError: a layer is missing."""
    lacks = _lacks(parts, file)
    if lacks is not None:
        raise IntegrityError(lacks, hint="put it back, or remove the branch")


def _lacks(parts: Parts, file: BranchFile) -> str | None:
    missing = branch_files.missing_layer(parts.layout, file)
    if missing is None or not _is_there(parts, file):
        return None
    return f"branch {file.name} needs {missing}, which is missing"


def _below(parts: Parts, file: BranchFile, volume: BranchVolume) -> View:
    with parts.names:
        entry = parts.index.volume_by_id(volume.id)
    if entry is None or not entry.stands_at(file.seqno):
        raise IntegrityError(f"branch {file.name} has a volume {volume.name} that was not there at @{file.seqno}")
    below = view_of(parts, entry, file.seqno)
    if below.size_bytes != volume.size_bytes:
        below.close()
        raise IntegrityError(
            f"branch {file.name} has a volume {volume.name} of another size than it had at @{file.seqno}"
        )
    return below


def volume_of(file: BranchFile, name: str) -> BranchVolume:
    for volume in file.volumes:
        if volume.name == name:
            return volume
    names = [volume.name for volume in file.volumes]
    raise NotFoundError(f"branch {file.name} has no volume {name!r}", near=near(name, names), volume=name)

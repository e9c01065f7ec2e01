"""Volumes: list, add, remove, resize, and their primaries.

What a crash in the middle leaves behind: files that end in ``.part`` (removed at the next start), a primary of a
volume that was removed (likewise), or complete files of a volume that the journal never got to know, which are set
aside before their id is used. A volume whose event is in the journal has had its base, and its primary, on stable
storage before.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import msgspec

from vsnapfs.binding import RecordKind
from vsnapfs.catalog.bodies import PrimaryPath, VolumeAdded, encode
from vsnapfs.catalog.index import VolumeEntry
from vsnapfs.core.errors import (
    BusyError,
    DegradedError,
    NameTakenError,
    StoreError,
    UsageError,
    VsnapfsError,
    from_os_error,
)
from vsnapfs.core.model import Point, Volume
from vsnapfs.core.names import check_name
from vsnapfs.repository import base
from vsnapfs.repository.layout import BASE, PART, PRIMARY, base_image, base_index, changed_map, primary_image
from vsnapfs.repository.parts import Parts, Report
from vsnapfs.repository.primary import check_size, find_image, is_device, is_same, open_primary

BLOCK_SIZES = (512, 4096)


def describe(parts: Parts, entry: VolumeEntry, seqno: int | None = None) -> Volume:
    """The entry as people see it, with its size now or at a seqno."""
    path = (
        str(parts.layout.absolute(primary_image(entry.id)))
        if entry.primary_kind == "repository"
        else entry.primary_path
    )
    state = None if seqno is None else parts.state_at(entry.id, seqno)
    return Volume(
        id=entry.id,
        name=entry.name,
        size_bytes=entry.size_bytes if state is None else state.size_bytes,
        block_size_bytes=entry.block_size_bytes,
        primary=entry.primary_kind,
        primary_path=path,
        base=entry.base,
        added_seqno=entry.added_seqno,
        removed=not (entry.removed_seqno is None if seqno is None else entry.stands_at(seqno)),
    )


def listed(parts: Parts, point: Point | None, removed: bool) -> list[Volume]:
    """Volumes by name, now or at a point. removed: those too that had been removed by then; of one name, the older
    first.
    """
    seqno = None if point is None else point.seqno
    entries = parts.entries(seqno)
    if removed:
        with parts.names:
            gone = [
                e
                for e in parts.index.volumes()
                if e.removed_seqno is not None and (seqno is None or e.removed_seqno <= seqno)
            ]
        entries = sorted(entries + gone, key=lambda entry: (entry.name, entry.id))
    return [describe(parts, entry, seqno) for entry in entries]


def add_thin(parts: Parts, name: str, size_bytes: int, block_size_bytes: int) -> Volume:
    """A volume of zeros with a sparse primary in the repository."""
    with parts.working(f"the addition of {name}"):
        _check_name_free(parts, name)
        _check_block_size(block_size_bytes, check_size(size_bytes, f"volume {name}"))
        volume = _next_id(parts)
        fd = _make_thin(parts, volume, size_bytes)
        return _join(parts, volume, VolumeAdded(name, "repository", False), size_bytes, block_size_bytes, fd)


def add_without_primary(parts: Parts, name: str, size_bytes: int) -> Volume:
    """A volume of zeros that only imports write to."""
    with parts.working(f"the addition of {name}"):
        _check_name_free(parts, name)
        check_size(size_bytes, f"volume {name}")
        return _join(parts, _next_id(parts), VolumeAdded(name, "none", False), size_bytes, BLOCK_SIZES[0], None)


def add_existing(parts: Parts, name: str, path: Path, block_size_bytes: int, report: Report) -> Volume:
    """Protect an image or device: what it holds now becomes the base. Nobody may write to it until this returns."""
    with parts.working(f"the addition of {name}"):
        _check_name_free(parts, name)
        real = find_image(path, parts.layout)
        _refuse_shared(parts, real)
        body = VolumeAdded(name, PrimaryPath(str(real)), True, base_digest="0" * 64)
        encode(body)  # what the journal would refuse is refused before the copy
        image = open_primary(real)
        try:
            _check_block_size(block_size_bytes, image.size_bytes)
            volume = _next_id(parts)
            body = msgspec.structs.replace(body, base_digest=base.build(parts, name, volume, image, report))
        except BaseException:
            os.close(image.fd)
            raise
        return _join(parts, volume, body, image.size_bytes, block_size_bytes, image.fd)


def remove(parts: Parts, name: str) -> None:
    """Remove a volume from now on; every point before still shows it. A primary outside the repository stays as it is.

    Whoever has ``live/NAME`` open gets errors from here on.
    """
    parts.require_owner()
    with parts.working(f"the removal of {name}"), parts.change:
        entry = parts.entry(name)
        parts.journal.commit()  # the primary of a volume that is gone gets nothing any more
        parts.record(RecordKind.VOLUME_REMOVE, None, volume=entry.id)
        release(parts, entry.id)
        parts.problems.pop(entry.id, None)
        parts.layout.remove(changed_map(entry.id))
        if entry.primary_kind == "repository":
            parts.layout.remove(primary_image(entry.id))


def resize(parts: Parts, name: str, size_bytes: int) -> Volume:
    """Grow or shrink. Bytes that are cut off read as zeros if the volume grows again.

    A primary grows before the event and shrinks after it, so it is never too small for its volume.
    Raises: UsageError: no such size, or a device that is smaller.
    """
    parts.require_owner()
    with parts.working(f"the resize of {name}"), parts.change:
        entry = parts.entry(name)
        check_resize(parts, entry, size_bytes)
        if size_bytes == entry.size_bytes:
            return describe(parts, entry)
        fd = parts.primaries.get(entry.id)
        if fd is not None and size_bytes > entry.size_bytes:
            _set_length(fd, entry, size_bytes)
        parts.record(RecordKind.VOLUME_RESIZE, None, volume=entry.id, a=entry.size_bytes, b=size_bytes)
        if fd is not None and size_bytes < entry.size_bytes:
            _set_length(fd, entry, size_bytes)
        return describe(parts, parts.entry(name))


def check_resize(parts: Parts, entry: VolumeEntry, size_bytes: int) -> None:
    """Raises what ``resize`` would, and changes nothing."""
    check_size(size_bytes, f"the new size of {entry.name}")
    _check_block_size(entry.block_size_bytes, size_bytes)
    if entry.primary_kind == "none":
        return
    fd = parts.primaries.get(entry.id)
    if fd is None:
        raise DegradedError(f"{entry.name} has no primary in use: {parts.problems.get(entry.id)}", volume=entry.name)
    if is_device(fd) and os.lseek(fd, 0, os.SEEK_END) < size_bytes:
        raise UsageError(
            f"{entry.primary_path} is smaller than {size_bytes} bytes",
            volume=entry.name,
            hint="enlarge the device first",
        )


def attach_all(parts: Parts) -> None:
    """Owner, at a start: give every volume its primary, bring it up to the journal; what cannot be had becomes a
    problem.
    """
    for entry in parts.entries():
        if entry.primary_kind == "none":
            continue
        try:
            _attach(parts, entry, _open_known(parts, entry))
        except VsnapfsError as error:
            _miss(parts, entry, error)


def clear_leftovers(parts: Parts) -> None:
    """Owner, at a start: finish or undo what a crash left half done."""
    for directory in (BASE, PRIMARY):
        for name in parts.layout.names(directory):
            if name.endswith(PART):
                parts.layout.remove(f"{directory}/{name}")
    with parts.names:
        removed = [e for e in parts.index.volumes() if e.removed_seqno is not None and e.primary_kind == "repository"]
    for entry in removed:
        parts.layout.remove(primary_image(entry.id))


def release(parts: Parts, volume: int) -> None:
    """Let go of the primary of a volume that is gone, if it is in use. One that had failed is no less gone."""
    fd = parts.primaries.pop(volume, None)
    if fd is not None:
        try:
            with suppress(StoreError):
                parts.journal.detach_primary(volume)
        finally:
            os.close(fd)


def _check_name_free(parts: Parts, name: str) -> None:
    parts.require_owner()
    check_name(name, "volume")
    with parts.names:
        taken = parts.index.volume(name) is not None
    if taken:
        raise NameTakenError(f"there is a volume {name!r} already", volume=name, hint="choose another name")


def _check_block_size(block_size_bytes: int, size_bytes: int) -> None:
    if block_size_bytes not in BLOCK_SIZES:
        raise UsageError(f"{block_size_bytes} is not a block size", hint="512 and 4096 are")
    if size_bytes % block_size_bytes:
        raise UsageError(f"{size_bytes} bytes are not a multiple of the block size of {block_size_bytes}")


def _refuse_shared(parts: Parts, path: Path) -> None:
    """One primary, one volume."""
    for entry in parts.entries():
        fd = parts.primaries.get(entry.id)
        if entry.primary_path == str(path) or (fd is not None and is_same(path, fd)):
            raise BusyError(f"{path} is the primary of volume {entry.name} already", volume=entry.name)


def _next_id(parts: Parts) -> int:
    """The id of the next volume, with nothing under its names: a base that is found there would become the volume's."""
    with parts.names:
        volume = parts.index.next_volume_id()
    for name in (base_image(volume), base_index(volume), primary_image(volume)):
        parts.layout.set_aside(name)
    return volume


def _make_thin(parts: Parts, volume: int, size_bytes: int) -> int:
    """A sparse file under its final name, durable; its descriptor."""
    part = primary_image(volume) + PART
    parts.layout.remove(part)
    fd = parts.layout.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        os.ftruncate(fd, size_bytes)
        os.fsync(fd)
        parts.layout.rename(part, primary_image(volume))
    except OSError as error:
        os.close(fd)
        raise from_os_error(error, f"make a primary of {size_bytes} bytes") from error
    except VsnapfsError:
        os.close(fd)
        raise
    return fd


def _join(
    parts: Parts, volume: int, body: VolumeAdded, size_bytes: int, block_size_bytes: int, fd: int | None
) -> Volume:
    """Make the volume real: its event, then its primary (``fd``, taken over; None: it has none)."""
    with parts.change:
        try:
            parts.record(RecordKind.VOLUME_ADD, body, volume=volume, a=block_size_bytes, b=size_bytes)
        except BaseException:
            if fd is not None:
                os.close(fd)
            raise
        entry = parts.entry(body.name)
        if fd is not None:
            try:
                _attach(parts, entry, fd)
            except VsnapfsError as error:
                _miss(parts, entry, error)
                raise
        return describe(parts, entry)


def _attach(parts: Parts, entry: VolumeEntry, fd: int) -> None:
    """Hand a primary to the journal. Takes ``fd`` over, also when it fails."""
    try:
        parts.journal.attach_primary(entry.id, fd)
    except BaseException:
        os.close(fd)
        raise
    parts.primaries[entry.id] = fd


def _miss(parts: Parts, entry: VolumeEntry, why: VsnapfsError) -> None:
    """A primary cannot be had: say so, and keep what it will lack."""
    parts.problems[entry.id] = f"volume {entry.name} has no primary: {why}"
    parts.journal.hold_applied()


def _open_known(parts: Parts, entry: VolumeEntry) -> int:
    """A descriptor of the primary of a volume that exists.

    Raises: DegradedError: smaller than the volume, or another file.
    """
    if entry.primary_kind == "repository":
        path = parts.layout.absolute(primary_image(entry.id))
        fd = parts.layout.open(primary_image(entry.id), os.O_RDWR)
    else:
        image = open_primary(find_image(Path(entry.primary_path or ""), parts.layout))
        path, fd = image.path, image.fd
    try:
        _check_known(entry, path, os.lseek(fd, 0, os.SEEK_END))
    except DegradedError:
        os.close(fd)
        raise
    return fd


def _check_known(entry: VolumeEntry, path: Path, size_bytes: int) -> None:
    if entry.primary_path not in (None, str(path)):
        raise DegradedError(f"{entry.primary_path} leads to {path} now", volume=entry.name)
    if size_bytes < entry.size_bytes:
        raise DegradedError(f"{path} has {size_bytes} bytes, the volume has {entry.size_bytes}", volume=entry.name)


def _set_length(fd: int, entry: VolumeEntry, size_bytes: int) -> None:
    """Give a regular file a new length; a device keeps its own, and a file that is long enough to grow into stays.

    Synced through a descriptor of its own: an error of the journal's writes stays for the journal's own sync to be told.
    """
    growing = size_bytes > entry.size_bytes
    if is_device(fd) or (growing and os.fstat(fd).st_size >= size_bytes):
        return
    try:
        os.ftruncate(fd, size_bytes)
        own = os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)
        try:
            os.fsync(own)
        finally:
            os.close(own)
    except OSError as error:
        raise from_os_error(error, f"resize the primary of {entry.name}") from error
